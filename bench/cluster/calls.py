"""What the operator asked of the API server, counted from the audit log. Pure."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from bench.stats import Sample
from cluster.harness.audit import READS, WRITES, Call

# Renewed every few seconds, however many ModelEngines there are.
LEASES = "leases"


def counted(calls: Iterable[Call], verbs: Collection[str]) -> int:
    """But for the Lease."""
    return sum(call.verb in verbs and call.resource != LEASES for call in calls)


def reads(calls: Iterable[Call]) -> int:
    return counted(calls, READS)


def writes(calls: Iterable[Call]) -> int:
    return counted(calls, WRITES)


def of_the_lease(calls: Iterable[Call]) -> int:
    return sum(call.resource == LEASES for call in calls)


def refused(calls: Iterable[Call]) -> int:
    """Answered with an error other than that there is no such object."""
    return sum(call.code >= 400 and call.code != 404 for call in calls)


def by_kind(calls: Iterable[Call], engines: int) -> dict[str, Sample]:
    """Calls for each ModelEngine, by verb and resource, the most frequent first; reads and writes apart."""
    counts = Counter((call.verb not in WRITES, f"{call.verb} {call.resource}") for call in calls)
    ordered = sorted(counts.items(), key=lambda item: (item[0][0], -item[1], item[0][1]))
    return {kind: {"calls": count / engines} for (_, kind), count in ordered}


def last_at(calls: Sequence[Call], verbs: Collection[str]) -> float | None:
    """When the last call began that is no Lease's, in seconds since the epoch."""
    moments = [moment(call.time) for call in calls if call.verb in verbs and call.resource != LEASES]
    return max(moments, default=None)


def moment(stamp: str) -> float:
    return datetime.datetime.fromisoformat(stamp).timestamp()
