"""Reads the API server's audit log, so that a test can count who asked what: no writes in a steady state, say.

The log has all requests but those of the cluster's own parts. A line is written before the answer goes out.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

READS = frozenset({"get", "list", "watch"})
WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})


@dataclass(frozen=True)
class Call:
    """One request; `resource` has the subresource too: `modelengines/status`."""

    user: str
    agent: str
    verb: str
    resource: str
    namespace: str
    name: str
    code: int
    time: str


class Audit:
    def __init__(self, path: Path) -> None:
        self.path = path

    def mark(self) -> int:
        """Now; for `calls(since=...)`."""
        return self.path.stat().st_size if self.path.exists() else 0

    def calls(
        self, *, user: str = "", namespace: str = "", verbs: Collection[str] = READS | WRITES, since: int = 0
    ) -> list[Call]:
        """Requests since a mark. `user` is the end of a name: NAMESPACE:NAME will do for a ServiceAccount."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as log:
            log.seek(since)
            # A line that is being written has no end yet.
            lines = [line for line in log if line.endswith(b"\n")]
        # A watch has a line when it begins and one when it ends.
        records = {record["auditID"]: record for record in map(json.loads, reversed(lines))}
        found = [_call(record) for record in reversed(records.values())]
        return [
            call
            for call in found
            if call.user.endswith(user) and (not namespace or call.namespace == namespace) and call.verb in verbs
        ]


def _call(record: dict[str, object]) -> Call:
    target = record.get("objectRef") or {}
    user = record["user"]
    status = record.get("responseStatus") or {}
    assert isinstance(target, dict)
    assert isinstance(user, dict)
    assert isinstance(status, dict)
    resource = "/".join(filter(None, (target.get("resource", ""), target.get("subresource", ""))))
    return Call(
        user=str(user["username"]),
        agent=str(record.get("userAgent", "")),
        verb=str(record["verb"]),
        resource=resource,
        namespace=str(target.get("namespace", "")),
        name=str(target.get("name", "")),
        code=int(status.get("code", 0)),
        time=str(record["requestReceivedTimestamp"]),
    )
