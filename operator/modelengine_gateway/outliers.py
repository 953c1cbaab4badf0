"""Replicas that answer, but badly: out for a while after some failures in a row. Pure; the clock is a parameter.

The numbers are Envoy's. Whoever can't be reached at all is the directory's to take off the list.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from modelengine.protocol import ServerInfo

FAILURES_IN_A_ROW = 5
# How long one is out for the first time, for the n-th time n times as long, at most; after so long without, it is new.
OUT_S, MOST_OUT_S = 30.0, 300.0
# Of the replicas of a name, but at least one of several; never the last.
MOST_OUT = 0.1


@dataclass(slots=True)
class _Record:
    failures: int = 0
    times_out: int = 0
    out_until: float = 0.0


class Outliers:
    def __init__(self) -> None:
        self._records: dict[ServerInfo, _Record] = {}

    def failed(self, info: ServerInfo, now: float) -> bool:
        """A request failed there that another replica might have answered. True: it is out now, for that."""
        record = self._records.setdefault(info, _Record())
        record.failures += 1
        if record.failures < FAILURES_IN_A_ROW or now < record.out_until:
            return False
        record.failures = 0
        if now - record.out_until > MOST_OUT_S:
            record.times_out = 0
        record.times_out += 1
        record.out_until = now + min(OUT_S * record.times_out, MOST_OUT_S)
        return True

    def succeeded(self, info: ServerInfo) -> None:
        if record := self._records.get(info):
            record.failures = 0

    def forget(self, info: ServerInfo) -> None:
        """It is not listed any more; another that comes to the address begins anew."""
        self._records.pop(info, None)

    def admitted(self, services: Sequence[ServerInfo], now: float) -> list[ServerInfo]:
        """Those that are not out. Where too many would be, those that were out longest are in."""
        if not self._records:
            return list(services)
        out = [info for info in services if self._out_until(info) > now]
        most = min(max(1, int(len(services) * MOST_OUT)), len(services) - 1)
        kept_out = set(sorted(out, key=self._out_until, reverse=True)[:most])
        return [info for info in services if info not in kept_out]

    def _out_until(self, info: ServerInfo) -> float:
        record = self._records.get(info)
        return 0.0 if record is None else record.out_until
