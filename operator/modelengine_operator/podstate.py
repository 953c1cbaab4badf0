"""What a pod says about itself, in few words: may callers be sent to it, and if it does not run, why not.

Pure: a pod as the API gives it in, a PodState out. The troubles are constants that users can search for, in the order
in which a pod meets them: placed, image, fetch, start, crash. What to do about one is in its message.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from modelengine import kinds
from modelengine.protocol import CHAT
from modelengine_operator import placement

UNSCHEDULABLE = "Unschedulable"
IMAGE_PULL_FAILED = "ImagePullFailed"
INVALID_IMAGE = "InvalidImageName"
CONFIG_ERROR = "PodConfigError"
FETCH_FAILED = "FetchFailed"
MODEL_LOAD_FAILED = "ModelLoadFailed"
OUT_OF_MEMORY = "OOMKilled"
CRASH_LOOP = "CrashLoop"
# It ended once and runs again; soon again is a loop.
RESTARTED = "Restarted"
PROBE_FAILED = "ProbeFailed"
EVICTED = "Evicted"
NODE_SILENT = "NodeSilent"

PULL_REASONS = (
    "ImagePullBackOff",
    "ErrImagePull",
    "ErrImageNeverPull",
    "RegistryUnavailable",
    "ImageInspectError",
    "SignatureValidationFailed",
)
CONFIG_REASONS = (
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "PreCreateHookError",
    "PreStartHookError",
    "PostStartHookError",
)
# What an engine and its fetcher print before they give up (modelengine_api.programs.exit_code).
ERROR_LINE = re.compile(r"^error: (.+)$", re.MULTILINE)
# The image of a volume, too, is told of under the container that mounts it.
IMAGE = re.compile(r'image "([^"]+)"')
RPC_NOISE = re.compile(r"rpc error: code = \w+ desc = ")
# After this long without an end Kubernetes forgets the ends before, and so do we.
LONG_RUN_S = 600
MESSAGE_LIMIT = 400
QUOTE_LIMIT = 250


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
    # It is being deleted, or has ended for good: another takes its place.
    is_leaving: bool
    # Its fetcher or its engine runs, so it can be asked how far it is.
    is_starting: bool
    node: str
    trouble: Trouble | None


def parse(pod: Mapping[str, Any]) -> PodState:
    meta, status = pod["metadata"], pod.get("status", {})
    annotations = meta.get("annotations", {})
    conditions = {condition["type"]: condition for condition in status.get("conditions", ())}
    is_deleted = "deletionTimestamp" in meta
    is_leaving = is_deleted or status.get("phase") in ("Failed", "Succeeded")
    is_ready = conditions.get("Ready", {}).get("status") == "True" and not is_leaving
    return PodState(
        name=meta["name"],
        uid=meta["uid"],
        ip=status.get("podIP", ""),
        engine=meta.get("labels", {}).get(kinds.LABEL_ENGINE, ""),
        served_name=annotations.get(kinds.ANNOTATION_SERVED_NAME, ""),
        protocol=annotations.get(kinds.ANNOTATION_PROTOCOL, CHAT),
        is_ready=is_ready,
        is_leaving=is_leaving,
        is_starting=not is_ready and not is_leaving and any(map(_can_tell, _containers(status))),
        node=pod.get("spec", {}).get("nodeName", ""),
        trouble=None if is_ready or is_deleted else _trouble(pod, status, conditions),
    )


def _can_tell(container: Mapping[str, Any]) -> bool:
    """Whether it is one of ours that runs, and not one that a cluster puts beside it."""
    return container["name"] in (kinds.ENGINE_CONTAINER, kinds.FETCH_CONTAINER) and "running" in container["state"]


def _trouble(
    pod: Mapping[str, Any], status: Mapping[str, Any], conditions: Mapping[str, Mapping[str, Any]]
) -> Trouble | None:
    if status.get("phase") == "Failed" and status.get("reason"):
        return _evicted(status["reason"], status.get("message", ""))
    placed = conditions.get("PodScheduled", {})
    if placed.get("status") == "False":
        selector = pod.get("spec", {}).get("nodeSelector", {})
        told, about = placement.explained(placed.get("message", "") or placed.get("reason", ""), selector)
        return Trouble(UNSCHEDULABLE, _cut(told), about)
    ready = conditions.get("Ready", {})
    troubles = (_of_container(container, pod, ready) for container in _containers(status))
    found = next((trouble for trouble in troubles if trouble is not None), None)
    return found or _silence(pod, conditions.get("ContainersReady", {}), ready)


def _evicted(reason: str, message: str) -> Trouble:
    told = _cut(message.rstrip(". "), QUOTE_LIMIT) or reason
    if '"shm"' in message:
        told += "; raise spec.shmSize"
    elif "low on resource" in message:
        told += "; give spec.resources.requests what it needs, so that its node keeps it free"
    return Trouble(EVICTED, told, "" if reason == EVICTED else reason)


def _silence(pod: Mapping[str, Any], containers_ready: Mapping[str, Any], ready: Mapping[str, Any]) -> Trouble | None:
    """The node controller takes Ready away and nothing else; other readiness that is missing has a reason."""
    if containers_ready.get("status") != "True" or ready.get("status") != "False" or ready.get("reason"):
        return None
    node = pod.get("spec", {}).get("nodeName", "")
    return Trouble(NODE_SILENT, f"node {node} has gone silent; its pods are replaced on others soon", node)


def _of_container(container: Mapping[str, Any], pod: Mapping[str, Any], ready: Mapping[str, Any]) -> Trouble | None:
    name, state = container["name"], container["state"]
    found = _of_waiting(container, state.get("waiting", {}))
    if found is None and name == kinds.ENGINE_CONTAINER and "running" in state and container.get("started"):
        # However it ended before: it has come up since.
        found = _unanswering(container, pod, ready)
    elif found is None and not container.get("ready"):
        found = _of_end(container, pod)
    if found is None or name == kinds.ENGINE_CONTAINER or found.reason == FETCH_FAILED:
        return found
    return replace(found, message=f"{name}: {found.message}")


def _of_waiting(container: Mapping[str, Any], waiting: Mapping[str, Any]) -> Trouble | None:
    reason = waiting.get("reason", "")
    message = _cut(RPC_NOISE.sub("", waiting.get("message", "")), QUOTE_LIMIT) or reason
    named = IMAGE.search(message)
    image = named[1] if named else container.get("image", "")
    if reason == "InvalidImageName":
        return Trouble(INVALID_IMAGE, message, image)
    if reason == "ErrImageNeverPull":
        return Trouble(IMAGE_PULL_FAILED, f"{message}; load it into the node, or set another pull policy", image)
    if reason in PULL_REASONS:
        return Trouble(IMAGE_PULL_FAILED, f"{message}; see to its name, and to spec.imagePullSecrets", image)
    return Trouble(CONFIG_ERROR, message) if reason in CONFIG_REASONS else None


def _unanswering(container: Mapping[str, Any], pod: Mapping[str, Any], ready: Mapping[str, Any]) -> Trouble | None:
    """Of one that had answered, and does not any more. Times as text in one format compare as times."""
    since = container["state"]["running"].get("startedAt", "")
    if container.get("ready") or ready.get("lastTransitionTime", "") <= since:
        return None
    return Trouble(PROBE_FAILED, f"it runs, but /ready does not answer 200 any more; {_log_of(container, pod)}")


def _of_end(container: Mapping[str, Any], pod: Mapping[str, Any]) -> Trouble | None:
    """Of one that does not run, or runs again and has not come up yet: how it ended last."""
    state = container["state"]
    ended = state.get("terminated") or container.get("lastState", {}).get("terminated")
    is_waiting = state.get("waiting", {}).get("reason") == "CrashLoopBackOff"
    if ended is None:
        return None
    code, is_oom = ended.get("exitCode", 0), ended.get("reason") == "OOMKilled"
    # An engine never ends by itself; what else ends well has done its work.
    if code == 0 and not (is_oom or is_waiting or container["name"] == kinds.ENGINE_CONTAINER):
        return None
    restarts = container.get("restartCount", 0)
    times = f"restarts: {restarts}; " if restarts else ""
    if is_oom:
        return Trouble(OUT_OF_MEMORY, times + _memory_advice(container["name"], pod))
    told = ended.get("message", "")
    if errors := ERROR_LINE.findall(told):
        is_fetch = container["name"] == kinds.FETCH_CONTAINER
        return Trouble(FETCH_FAILED if is_fetch else MODEL_LOAD_FAILED, _cut(times + errors[-1]))
    lines = [line for line in told.splitlines() if line.strip()]
    last = _cut(lines[-1].strip(), QUOTE_LIMIT) if lines else "no last words"
    is_loop = is_waiting or (restarts > 1 and _lasted_s(ended) < LONG_RUN_S)
    return Trouble(
        CRASH_LOOP if is_loop else RESTARTED,
        f"{times}exit code {_code(code)}: {last}; {_log_of(container, pod, before=bool(restarts))}",
    )


def _memory_advice(name: str, pod: Mapping[str, Any]) -> str:
    limits = [
        container.get("resources", {}).get("limits", {}).get("memory")
        for part in ("containers", "initContainers")
        for container in pod.get("spec", {}).get(part, ())
        if container["name"] == name
    ]
    if any(limits):
        return f"it went over its memory limit of {limits[0]}; raise spec.resources.limits.memory"
    return "its node had no memory left; set spec.resources.requests.memory to what it needs"


def _lasted_s(ended: Mapping[str, Any]) -> float:
    if not (ended.get("startedAt") and ended.get("finishedAt")):
        return 0.0
    return (datetime.fromisoformat(ended["finishedAt"]) - datetime.fromisoformat(ended["startedAt"])).total_seconds()


def _code(code: int) -> str:
    """With the signal's name, for 128 + signal: `137 (SIGKILL)`."""
    signals = {128 + number: number.name for number in signal.Signals}
    return f"{code} ({signals[code]})" if code in signals else f"{code}"


def _log_of(container: Mapping[str, Any], pod: Mapping[str, Any], *, before: bool = False) -> str:
    previous = " --previous" if before and "terminated" not in container["state"] else ""
    return f"see kubectl logs {pod['metadata']['name']} -c {container['name']}{previous}"


def _containers(status: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return [c for c in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())) if "state" in c]


def _cut(text: str, limit: int = MESSAGE_LIMIT) -> str:
    """In one line, and not too long for one."""
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
