"""What a pod says about itself, in few words: is it listed-worthy, and if it does not run, why not.

Pure: a pod as the API gives it in, a PodState out. The troubles are constants that users can search for, in the order
in which a pod meets them: placed, image, fetch, start, crash.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelengine import kinds
from modelengine.protocol import CHAT

UNSCHEDULABLE = "Unschedulable"
IMAGE_PULL_FAILED = "ImagePullFailed"
INVALID_IMAGE = "InvalidImageName"
CONFIG_ERROR = "PodConfigError"
FETCH_FAILED = "FetchFailed"
MODEL_LOAD_FAILED = "ModelLoadFailed"
OUT_OF_MEMORY = "OOMKilled"
CRASH_LOOP = "CrashLoop"
# It ended once and runs again; twice in a row is a loop.
RESTARTED = "Restarted"
PROBE_FAILED = "ProbeFailed"
EVICTED = "Evicted"

PULL_REASONS = ("ImagePullBackOff", "ErrImagePull", "ErrImageNeverPull", "RegistryUnavailable", "ImageInspectError")
CONFIG_REASONS = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
# What an engine and its fetcher print before they give up (modelengine_api.serving.exit_code).
ERROR_LINE = re.compile(r"^error: (.+)$", re.MULTILINE)
LACKING = re.compile(r"Insufficient ([\w.\-/]+)")
UNTOLERATED = re.compile(r"untolerated taint")
MESSAGE_LIMIT = 400


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a pod does not run. `about` narrows the reason down, as in `Unschedulable: nvidia.com/gpu`."""

    reason: str
    message: str
    about: str = ""


@dataclass(frozen=True, slots=True)
class PodState:
    name: str
    uid: str
    ip: str
    engine: str
    served_name: str
    protocol: str
    is_ready: bool
    is_leaving: bool
    # Its fetcher or its engine runs, so it can be asked how far it is.
    is_starting: bool
    node: str
    trouble: Trouble | None


def parse(pod: Mapping[str, Any]) -> PodState:
    meta, status = pod["metadata"], pod.get("status", {})
    annotations = meta.get("annotations", {})
    conditions = {condition["type"]: condition for condition in status.get("conditions", ())}
    is_over = status.get("phase") in ("Failed", "Succeeded")
    is_leaving = "deletionTimestamp" in meta or is_over
    is_ready = conditions.get("Ready", {}).get("status") == "True"
    return PodState(
        name=meta["name"],
        uid=meta["uid"],
        ip=status.get("podIP", ""),
        engine=meta.get("labels", {}).get(kinds.LABEL_ENGINE, ""),
        served_name=annotations.get(kinds.ANNOTATION_SERVED_NAME, ""),
        protocol=annotations.get(kinds.ANNOTATION_PROTOCOL, CHAT),
        is_ready=is_ready and not is_leaving,
        is_leaving=is_leaving,
        is_starting=not is_ready and not is_leaving and any("running" in c["state"] for c in _containers(status)),
        node=pod.get("spec", {}).get("nodeName", ""),
        trouble=None if is_ready or "deletionTimestamp" in meta else _trouble(pod, status, conditions),
    )


def _trouble(
    pod: Mapping[str, Any], status: Mapping[str, Any], conditions: Mapping[str, Mapping[str, Any]]
) -> Trouble | None:
    if status.get("phase") == "Failed" and status.get("reason"):
        return Trouble(EVICTED, f"{status['reason']}: {status.get('message', '')}")
    placed = conditions.get("PodScheduled", {})
    if placed.get("status") == "False" and placed.get("reason") == "Unschedulable":
        return _unschedulable(pod, placed.get("message", ""))
    troubles = (_of_container(c) or _unanswering(c, conditions.get("Ready", {})) for c in _containers(status))
    return next((trouble for trouble in troubles if trouble is not None), None)


def _unschedulable(pod: Mapping[str, Any], message: str) -> Trouble:
    lacking = list(dict.fromkeys(LACKING.findall(message)))
    # What few nodes have is the likelier cause than memory.
    lacking.sort(key=lambda name: name in ("cpu", "memory", "ephemeral-storage"))
    if lacking:
        about = ", ".join(lacking)
    elif "node affinity/selector" in message:
        selector = pod.get("spec", {}).get("nodeSelector", {})
        about = ", ".join(f"{key}={value}" for key, value in selector.items()) or "affinity"
    else:
        about = "taint" if UNTOLERATED.search(message) else ""
    return Trouble(UNSCHEDULABLE, _cut(message), about)


def _of_container(container: Mapping[str, Any]) -> Trouble | None:
    waiting = container.get("state", {}).get("waiting", {})
    reason, message = waiting.get("reason", ""), _cut(waiting.get("message", ""))
    image = container.get("image", "")
    if reason == "InvalidImageName":
        return Trouble(INVALID_IMAGE, message, image)
    if reason in PULL_REASONS:
        return Trouble(IMAGE_PULL_FAILED, message or reason, image)
    if reason in CONFIG_REASONS:
        return Trouble(CONFIG_ERROR, message or reason)
    ended = None if container.get("ready") else _last_end(container)
    return None if ended is None else _of_end(container, ended, is_waiting=reason == "CrashLoopBackOff")


def _unanswering(container: Mapping[str, Any], ready: Mapping[str, Any]) -> Trouble | None:
    """Of one that had answered, and does not any more. Times as text in one format compare as times."""
    running = container["state"].get("running")
    if running is None or not container.get("started") or container.get("ready"):
        return None
    if ready.get("lastTransitionTime", "") <= running.get("startedAt", ""):
        return None
    return Trouble(PROBE_FAILED, "it runs, and does not answer /ready with 200 any more; see its log")


def _last_end(container: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """How the container ended last, when that was a failure."""
    for state in ("state", "lastState"):
        ended: Mapping[str, Any] | None = container.get(state, {}).get("terminated")
        if ended is not None and (ended.get("exitCode", 0) != 0 or ended.get("reason") == "OOMKilled"):
            return ended
    return None


def _of_end(container: Mapping[str, Any], ended: Mapping[str, Any], is_waiting: bool) -> Trouble:
    told = ended.get("message", "")
    errors = ERROR_LINE.findall(told)
    restarts = container.get("restartCount", 0)
    times = f"restarts: {restarts}; " if restarts else ""
    if ended.get("reason") == "OOMKilled":
        return Trouble(OUT_OF_MEMORY, f"{times}the container went over its memory limit; raise resources.limits.memory")
    if errors:
        is_fetch = container["name"] == kinds.FETCH_CONTAINER
        return Trouble(FETCH_FAILED if is_fetch else MODEL_LOAD_FAILED, _cut(times + errors[-1]))
    lines = [line for line in told.splitlines() if line.strip()]
    last = lines[-1].strip() if lines else "no last words"
    is_loop = is_waiting or restarts > 1
    return Trouble(CRASH_LOOP if is_loop else RESTARTED, _cut(f"{times}exit code {ended.get('exitCode')}: {last}"))


def _containers(status: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return [c for c in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())) if "state" in c]


def _cut(text: str) -> str:
    return text if len(text) <= MESSAGE_LIMIT else f"{text[: MESSAGE_LIMIT - 1]}…"
