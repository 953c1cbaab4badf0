"""Kubernetes Events: one for each time that a ModelEngine's reason changes, none while it stays the same.

Pure, but for the memory of what was told lately, which keeps a flapping reason from filling the list of events.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from modelengine import kinds
from modelengine_operator import findings
from modelengine_operator.findings import Finding

SAME_AGAIN_S = 60.0
MAX_NOTE = 1024
# All other reasons are on the way to being ready, or are it.
PROBLEMS = {
    *findings.WORST_FIRST,
    *findings.STALLED,
    findings.WRITE_REFUSED,
    findings.QUOTA_EXCEEDED,
    findings.POD_SECURITY,
    findings.PODS_REFUSED,
}


class Transitions:
    """Remembers for SAME_AGAIN_S what was told of whom."""

    def __init__(self, identity: str, clock: Callable[[], float]) -> None:
        self._identity = identity
        self._clock = clock
        self._told: dict[tuple[str, str], float] = {}

    def event(self, obj: Mapping[str, Any], found: Finding, now: datetime) -> dict[str, Any] | None:
        """The Event that tells of a new reason; None when the status says it already, or it was told lately."""
        previous = {c["type"]: c for c in obj.get("status", {}).get("conditions", ())}.get("Ready", {})
        if previous.get("reason") == found.reason:
            return None
        key = (obj["metadata"]["uid"], found.reason)
        at = self._clock()
        self._told = {k: told for k, told in self._told.items() if at - told < SAME_AGAIN_S}
        if key in self._told:
            return None
        self._told[key] = at
        return self._event(obj, found, now)

    def _event(self, obj: Mapping[str, Any], found: Finding, now: datetime) -> dict[str, Any]:
        metadata = obj["metadata"]
        stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"namespace": metadata["namespace"], "name": f"{metadata['name']}.{uuid.uuid4().hex[:16]}"},
            "involvedObject": {
                "apiVersion": kinds.API_VERSION,
                "kind": kinds.KIND,
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
                "resourceVersion": metadata["resourceVersion"],
            },
            "reason": found.reason,
            "message": found.message[:MAX_NOTE],
            "type": "Warning" if found.reason in PROBLEMS else "Normal",
            "source": {"component": kinds.MANAGER},
            "reportingComponent": kinds.MANAGER,
            "reportingInstance": self._identity,
            "firstTimestamp": stamp,
            "lastTimestamp": stamp,
            "count": 1,
        }
