"""Follows what each listed replica says of its load: one connection each, made anew with pauses that grow."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence

import orjson

from modelengine import errors, wire
from modelengine.protocol import EngineLoad, ServerInfo
from modelengine_api import load_reports
from modelengine_gateway.directory import Directory
from modelengine_gateway.loads import Loads
from modelengine_gateway.upstream import Answer, Deadlines, Upstream

log = logging.getLogger(__name__)

# Two reports may be missed before the replica counts as silent; the stream itself has no end.
FOLLOWING = Deadlines(first_byte_s=5.0, between_s=3 * load_reports.KEEP_ALIVE_S, total_s=float("inf"))
# An engine that has no such route is asked again, too: it may be replaced at its address.
FIRST_PAUSE_S, MOST_PAUSE_S = 0.5, 30.0
MAX_LINE_BYTES = 4096


class LoadReports:
    """All of `on_gone` are told of each replica that is not listed any more."""

    def __init__(
        self, directory: Directory, upstream: Upstream, loads: Loads, on_gone: Sequence[Callable[[ServerInfo], None]]
    ) -> None:
        self._directory = directory
        self._upstream = upstream
        self._loads = loads
        self._on_gone = on_gone
        # Connections to follow a replica that ended in an error, or came to none, by its code.
        self.failures: Counter[str] = Counter()
        self._following: dict[ServerInfo, asyncio.Task[None]] = {}

    async def keep(self) -> None:
        """Runs until it is cancelled, or the directory is closed."""
        try:
            with contextlib.suppress(errors.Unavailable):
                async for services in self._directory.watch(None, None):
                    self._follow_all(set(services))
        finally:
            self._follow_all(set())

    def _follow_all(self, listed: set[ServerInfo]) -> None:
        for info in self._following.keys() - listed:
            self._following.pop(info).cancel()
            for forget in self._on_gone:
                forget(info)
        for info in listed - self._following.keys():
            self._following[info] = asyncio.create_task(self._follow(info))

    async def _follow(self, info: ServerInfo) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                with await self._upstream.open(info, load_reports.PATH, b"", FOLLOWING, verb="GET") as answer:
                    async for line in _lines(answer):
                        self._loads.reported(info, parse(line))
                        pause_s = FIRST_PAUSE_S
            except errors.StreamBroken as broken:
                self.failures[broken.code] += 1
                # It was there a moment ago; no chat need find out.
                self._directory.suspect(info)
            except errors.ModelEngineError as refused:
                self.failures[refused.code] += 1
                log.debug("%s reports no load: %s", info.url, refused)
            finally:
                self._loads.silent(info)
            # By chance, so that front doors do not come all at once.
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))
            pause_s = min(pause_s * 2, MOST_PAUSE_S)


def parse(line: bytes) -> EngineLoad:
    """Raises the error that the line carries, and StreamBroken for what is no report."""
    try:
        msg = wire.unwrap(orjson.loads(line))
        return EngineLoad(max(0, int(msg["running"])), max(0, int(msg["waiting"])), float(msg["cache_usage"]))
    except (ValueError, TypeError, LookupError) as failure:
        raise errors.StreamBroken("what should be a report of load is none") from failure


async def _lines(answer: Answer) -> AsyncIterator[bytes]:
    """The last whole line of what has come: the earlier ones are older."""
    rest = b""
    async for data in answer:
        whole, newline, rest = (rest + data).rpartition(b"\n")
        if len(rest) > MAX_LINE_BYTES:
            raise errors.StreamBroken("a report of load without an end")
        if newline:
            yield whole.rpartition(b"\n")[2]
