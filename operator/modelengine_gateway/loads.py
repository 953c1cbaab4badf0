"""How much each replica has to do, from what it reports and from what this front door knows itself. Pure.

A report counts the requests of every front door, but is a moment old; own requests are known at once. So the load is
the last report, and what was opened or closed here since. A replica that reports nothing, as older engines, has the
load that is known here.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from modelengine.protocol import EngineLoad, ServerInfo


@dataclass(frozen=True, slots=True)
class _Report:
    load: EngineLoad
    # Requests of this front door that were open when the report came.
    own: int


class Loads:
    def __init__(self) -> None:
        self._open: Counter[ServerInfo] = Counter()
        self._reports: dict[ServerInfo, _Report] = {}

    def of(self, info: ServerInfo) -> int:
        """Requests that run and wait there."""
        own, report = self._open[info], self._reports.get(info)
        if report is None:
            return own
        # At least the own ones: one that was under way when the report was made is not in it.
        return max(own, report.load.running + report.load.waiting + own - report.own)

    def reported(self, info: ServerInfo, load: EngineLoad) -> None:
        self._reports[info] = _Report(load, self._open[info])

    def silent(self, info: ServerInfo) -> None:
        """Nothing is reported any more, and what was, grows old."""
        self._reports.pop(info, None)

    def last_report(self, info: ServerInfo) -> EngineLoad | None:
        report = self._reports.get(info)
        return None if report is None else report.load

    def together(self, services: Iterable[ServerInfo]) -> EngineLoad | None:
        """What those of them that report have to do, as they last said: the requests of all, and the mean use of their
        caches. Every front door says the same of them, but for the moment that a report takes."""
        told = [load for info in services if (load := self.last_report(info)) is not None]
        if not told:
            return None
        usage = sum(load.cache_usage for load in told) / len(told)
        return EngineLoad(sum(load.running for load in told), sum(load.waiting for load in told), round(usage, 3))

    @contextlib.contextmanager
    def lease(self, info: ServerInfo) -> Iterator[None]:
        """A request of this front door is there while the block runs."""
        self._open[info] += 1
        try:
            yield
        finally:
            self._open[info] -= 1
            if not self._open[info]:
                del self._open[info]
