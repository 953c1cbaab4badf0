"""ModelEngines and their pods, as `kubectl get` gives them, made into the records that `ls` and `ps` show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from modelengine import errors
from modelengine.kinds import ANNOTATION_SERVED_NAME, ENGINE_CONTAINER, LABEL_ENGINE

Object = Mapping[str, Any]


def engine_record(engine: Object, now: datetime) -> dict[str, Any]:
    """One ModelEngine: what it serves, whether it does, and why not."""
    spec, status, metadata = engine["spec"], engine.get("status") or {}, engine["metadata"]
    ready = condition(engine, "Ready")
    facts, loading = status.get("model") or {}, status.get("loading") or {}
    return {
        "name": metadata["name"],
        "namespace": metadata["namespace"],
        "model": served_name(engine),
        "protocol": spec.get("protocol", "chat"),
        "ready": ready.get("status"),
        "ready_replicas": status.get("readyReplicas", 0),
        "replicas": spec.get("replicas", 1),
        "reason": status.get("reason") or ready.get("reason"),
        "message": ready.get("message"),
        "age_s": age_s(engine, now),
        "source": spec["model"]["source"],
        "device": facts.get("device"),
        "stage": loading.get("stage"),
        "bytes": loading.get("bytes"),
        "total": loading.get("total"),
        "endpoints": [f"{at['host']}:{at['port']}" for at in status.get("endpoints") or ()],
    }


def progress(record: Object) -> str:
    """`downloading 42 %`: what a pod that is not ready does, and how far it is where that is known."""
    if not record["stage"]:
        return "-"
    share = f" {100 * record['bytes'] // record['total']} %" if record["bytes"] is not None and record["total"] else ""
    return f"{record['stage']}{share}"


def served_name(engine: Object) -> str:
    """What clients ask for."""
    status, model = engine.get("status") or {}, engine["spec"]["model"]
    return str(status.get("servedName") or model.get("name") or engine["metadata"]["name"])


def condition(thing: Object, kind: str) -> Object:
    """The condition of that kind; empty where it has none yet."""
    conditions = (thing.get("status") or {}).get("conditions") or ()
    return next((found for found in conditions if found["type"] == kind), {})


def why_not(engines: Sequence[Object], name: str) -> str:
    """One sentence about the ModelEngine that should serve the name."""
    found = [engine for engine in engines if name in (served_name(engine), engine["metadata"]["name"])]
    if not found:
        return "no ModelEngine has that name"
    own, ready = found[0]["metadata"], condition(found[0], "Ready")
    if served_name(found[0]) != name:
        return f"ModelEngine {own['namespace']}/{own['name']} serves {served_name(found[0])!r}"
    said = f"{ready['reason']}: {ready.get('message', '')}" if ready else "the operator has not seen it yet"
    return f"ModelEngine {own['namespace']}/{own['name']}: {said}"


def find(engines: Sequence[Object], typed: str) -> Object:
    """The ModelEngine of that name, or that serves that name. Raises NotFound with the nearest."""
    for name_of in (lambda engine: engine["metadata"]["name"], served_name):
        found = [engine for engine in engines if name_of(engine) == typed]
        if found:
            return found[0]
    raise errors.unknown_name("ModelEngine", typed, [engine["metadata"]["name"] for engine in engines])


def pod_record(pod: Object, info: Object | None, now: datetime) -> dict[str, Any]:
    """One replica: where it runs, and what it says of itself if it does."""
    known = info or {}
    load = known.get("load") or {}
    metadata, spec, status = pod["metadata"], pod["spec"], pod.get("status") or {}
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    return {
        **known,
        "name": annotations.get(ANNOTATION_SERVED_NAME) or labels.get(LABEL_ENGINE),
        "engine": labels.get(LABEL_ENGINE),
        "namespace": metadata["namespace"],
        "pod": metadata["name"],
        "node": spec.get("nodeName"),
        "host": status.get("podIP"),
        "ready": is_ready(pod),
        "state": pod_state(pod),
        "restarts": sum(container["restartCount"] for container in status.get("containerStatuses") or ()),
        "context": known.get("context_length"),
        "running": load.get("running"),
        "waiting": load.get("waiting"),
        "age_s": age_s(pod, now),
    }


def is_ready(pod: Object) -> bool:
    return condition(pod, "Ready").get("status") == "True"


def is_running(pod: Object) -> bool:
    """Whether the engine itself runs, and can be asked."""
    containers = (pod.get("status") or {}).get("containerStatuses") or ()
    return any(one["name"] == ENGINE_CONTAINER and "running" in (one.get("state") or {}) for one in containers)


def has_begun(pod: Object) -> bool:
    """Whether any of its containers has run, so that there may be something to read."""
    status = pod.get("status") or {}
    containers = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    return any(container["restartCount"] or "waiting" not in (container.get("state") or {}) for container in containers)


def pod_state(pod: Object) -> str:
    """One word, as `kubectl get pods` has it: what a container waits for, else the phase."""
    if pod["metadata"].get("deletionTimestamp"):
        return "Terminating"
    status = pod.get("status") or {}
    for group, prefix in (("initContainerStatuses", "Init:"), ("containerStatuses", "")):
        for container in status.get(group) or ():
            state = container.get("state") or {}
            if reason := (state.get("waiting") or {}).get("reason"):
                return str(reason) if reason == "PodInitializing" else f"{prefix}{reason}"
            if prefix and "running" in state:
                return f"{prefix}{container['name']}"
    phase = str(status.get("phase") or "Unknown")
    return "NotReady" if phase == "Running" and not is_ready(pod) else phase


def age_s(thing: Object, now: datetime) -> float:
    return (now - datetime.fromisoformat(thing["metadata"]["creationTimestamp"])).total_seconds()
