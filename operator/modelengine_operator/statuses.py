"""The status of a ModelEngine: conditions that `kubectl wait`, Helm, Argo and Flux understand, counts and endpoints.

Pure. The finding of `findings.first` is the condition Ready and the column Reason; the other conditions follow from the
same facts. A condition's time moves only when its status does.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from modelengine import kinds
from modelengine_operator import findings
from modelengine_operator.findings import Finding
from modelengine_operator.observed import Observed
from modelengine_operator.status import MAX_ENDPOINTS, MAX_MESSAGE

Status = dict[str, Any]

READY = "Ready"
AVAILABLE = "Available"
REGISTERED = "Registered"
MODEL_LOADED = "ModelLoaded"
RECONCILING = "Reconciling"
STALLED = "Stalled"
OURS = (READY, AVAILABLE, REGISTERED, MODEL_LOADED, RECONCILING, STALLED, findings.NAME_CONFLICT)


def of(observed: Observed, found: Finding, now: datetime) -> Status:
    """The whole status, as it is to be written."""
    obj, engine = observed.obj, observed.engine
    previous = obj.get("status", {})
    staying = [pod for pod in observed.pods if not pod.is_leaving]
    ready = sum(pod.is_ready for pod in staying)
    status: Status = {
        "observedGeneration": obj["metadata"]["generation"],
        "conditions": _conditions(observed, found, previous.get("conditions", ()), now),
        "servedName": engine.served_name if engine is not None else previous.get("servedName", ""),
        "reason": found.column,
        "replicas": len(staying),
        "readyReplicas": ready,
        "ready": f"{ready}/{_wanted(observed)}",
        "selector": kinds.as_selector(kinds.selector(obj["metadata"]["name"])),
        "endpoints": [
            {"uid": service.uid, "pod": service.pod, "host": service.info.host, "port": service.info.port}
            for service in observed.listed[:MAX_ENDPOINTS]
        ],
    }
    facts = observed.facts or previous.get("model")
    if facts:
        status["model"] = dict(facts)
    if observed.progress is not None:
        progress = observed.progress
        loading = {"stage": progress.stage, "bytes": progress.bytes, "total": progress.total}
        status["loading"] = {key: value for key, value in loading.items() if value is not None}
    return status


def _wanted(observed: Observed) -> int:
    """Also of a spec that can't be read: its replicas may well be."""
    if observed.engine is not None:
        return observed.engine.spec.replicas
    told = observed.obj.get("spec", {}).get("replicas", 1)
    return told if isinstance(told, int) else 1


def _conditions(
    observed: Observed, found: Finding, previous: list[Mapping[str, Any]], now: datetime
) -> list[Mapping[str, Any]]:
    listed = len(observed.listed)
    loaded = any(pod.is_ready for pod in observed.pods)
    in_progress = not found.is_ready and not found.is_stalled
    not_yet = (found.reason, found.message)
    wanted: dict[str, tuple[bool, str, str]] = {
        READY: (found.is_ready, *not_yet),
        AVAILABLE: _case(listed > 0, "EndpointsListed", f"replicas that can be called: {listed}", not_yet),
        REGISTERED: _case(listed > 0, "InRegistry", "the name is in the namespace's registry", not_yet),
        MODEL_LOADED: _case(loaded, "Loaded", "a replica has loaded the model", not_yet),
        RECONCILING: _case(not in_progress, "Settled", "nothing is under way", not_yet, when=False),
        STALLED: _case(not found.is_stalled, "NotStalled", "nothing waits for a person", not_yet, when=False),
    }
    if found.reason == findings.NAME_CONFLICT:
        wanted[findings.NAME_CONFLICT] = (True, *not_yet)
    since = {(c["type"], c["status"]): c["lastTransitionTime"] for c in previous}
    generation = observed.obj["metadata"]["generation"]
    return [
        {
            "type": kind,
            "status": str(is_so),
            "reason": reason,
            "message": message[:MAX_MESSAGE],
            "lastTransitionTime": since.get((kind, str(is_so)), now.strftime("%Y-%m-%dT%H:%M:%SZ")),
            "observedGeneration": generation,
        }
        for kind, (is_so, reason, message) in wanted.items()
    ]


def _case(
    is_well: bool, reason: str, message: str, else_: tuple[str, str], *, when: bool = True
) -> tuple[bool, str, str]:
    """A condition that is `when` while all is well with it, and then has its own reason."""
    return (is_well is when, reason, message) if is_well else (is_well is when, *else_)


def manifest(observed: Observed, status: Status) -> dict[str, Any]:
    """The object to apply to the subresource."""
    metadata = observed.obj["metadata"]
    return {
        "apiVersion": kinds.API_VERSION,
        "kind": kinds.KIND,
        "metadata": {"namespace": metadata["namespace"], "name": metadata["name"], "uid": metadata["uid"]},
        "status": status,
    }


def differs(observed: Observed, status: Status) -> bool:
    """Whether the status must be written."""
    return _comparable(observed.obj.get("status", {})) != _comparable(status)


def _comparable(status: Status) -> Status:
    """Without what is empty, without conditions of others, and without an order where the server keeps none."""
    return {key: value for key, value in status.items() if value not in ([], "")} | {
        "conditions": {c["type"]: c for c in status.get("conditions", ()) if c["type"] in OURS},
        "endpoints": {endpoint["uid"]: endpoint for endpoint in status.get("endpoints", ())},
    }
