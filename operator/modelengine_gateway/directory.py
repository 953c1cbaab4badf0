"""The living directory: names to addresses that answer, with waits and watches on it.

The name server's routes and the relay ask it. The facts are in a Registry, which is pure; here are the clock, the
probing of engines, and whoever waits for a change.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelengine import errors
from modelengine.protocol import ServerInfo
from modelengine.registry import Registry

log = logging.getLogger(__name__)

Probe = Callable[[ServerInfo], Coroutine[Any, Any, bool]]

KEEP_ALIVE_S = 10.0
# Woken so late, this process was stopped or starved, and the engines had no chance to renew.
OVERSLEPT_S = 1.0


@dataclass(eq=False, slots=True)
class Watcher:
    """Somebody who waits for a change of what the filter lets through; None lets everything through."""

    protocol: str | None
    name: str | None
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def sees(self, info: ServerInfo) -> bool:
        return self.protocol in (None, info.protocol) and self.name in (None, info.name)


@dataclass(frozen=True, eq=False, slots=True)
class Arrival:
    """One registration that waits for its engine's answer."""

    info: ServerInfo


class Directory:
    """Lists what is: an entry comes in only when its engine answers, and leaves with its lease or by a report."""

    def __init__(self, registry: Registry, probe: Probe, clock: Callable[[], float] = time.monotonic) -> None:
        self._registry = registry
        self._probe = probe
        self._clock = clock
        self._watchers: set[Watcher] = set()
        self._probes: dict[ServerInfo, asyncio.Task[bool]] = {}
        # Who is being asked before being listed; whoever deregisters meanwhile is taken out.
        self._arrivals: set[Arrival] = set()
        self._is_closed = False

    @property
    def lease_s(self) -> float:
        return self._registry.lease_s

    @property
    def revision(self) -> int:
        return self._registry.revision

    def services(self, protocol: str, name: str) -> list[ServerInfo]:
        return self._registry.services(protocol, name)

    def names(self, protocol: str) -> list[str]:
        return self._registry.names(protocol)

    def all(self) -> list[ServerInfo]:
        return self._registry.all()

    async def register(self, info: ServerInfo) -> None:
        """Renews the entry, or lists a new one once its engine says that it is ready. Raises Unavailable if not."""
        if info not in self._registry and not await self._arrives(info):
            raise errors.Unavailable(f"{info.name!r} is not listed: {info.url}/ready does not answer 200 from here")
        if self._registry.register(info, self._clock()):
            self._announce("listed", [info])

    def deregister(self, info: ServerInfo) -> bool:
        """Takes the entry off the list; False when it was not on it."""
        # If it was just arriving, it must not be listed after it has left.
        self._arrivals = {arrival for arrival in self._arrivals if arrival.info != info}
        founded = self._registry.deregister(info)
        if founded:
            self._announce("deregistered", [info])
        return founded

    async def report(self, info: ServerInfo) -> bool:
        """Somebody could not reach the engine: asks it, and unlists it when it does not answer. True: still listed."""
        if info in self._registry and not await self._is_ready(info) and self._registry.deregister(info):
            self._announce("unlisted, it does not answer", [info])
        return info in self._registry

    async def _arrives(self, info: ServerInfo) -> bool:
        """Whether the engine answers, and has not left meanwhile."""
        arrival = Arrival(info)
        self._arrivals.add(arrival)
        try:
            return await self._is_ready(info) and arrival in self._arrivals
        finally:
            self._arrivals.discard(arrival)

    async def _is_ready(self, info: ServerInfo) -> bool:
        """Asks the engine; whoever wants to know meanwhile shares the answer, as all do when a busy replica dies."""
        if info not in self._probes:
            probe = asyncio.create_task(self._probe(info))
            self._probes[info] = probe
            probe.add_done_callback(lambda _: self._probes.pop(info))
        probe = self._probes[info]
        await asyncio.wait([probe])
        return probe.result()

    async def wait(self, protocol: str, name: str, timeout_s: float) -> list[ServerInfo]:
        """The replicas of the name as soon as there are any. Raises WaitTimeout."""
        try:
            async with asyncio.timeout(timeout_s):
                with self._watching(protocol, name) as watcher:
                    while not (services := self.services(protocol, name)):
                        await self._next_change(watcher)
                    return services
        except TimeoutError:
            raise errors.WaitTimeout(f"{name!r} is not available after {timeout_s:g} s") from None

    async def watch(self, protocol: str | None, name: str | None) -> AsyncGenerator[Sequence[ServerInfo], None]:
        """What the filter lets through: now, after each change of it, and again at least every KEEP_ALIVE_S."""
        with self._watching(protocol, name) as watcher:
            while True:
                yield [info for info in self.all() if watcher.sees(info)]
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(KEEP_ALIVE_S):
                        await self._next_change(watcher)

    @contextlib.contextmanager
    def _watching(self, protocol: str | None, name: str | None) -> Iterator[Watcher]:
        watcher = Watcher(protocol, name)
        self._watchers.add(watcher)
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)

    async def _next_change(self, watcher: Watcher) -> None:
        """Returns at once when there was a change since the last call: none is lost on a watcher that is busy."""
        if not self._is_closed:
            await watcher.changed.wait()
            watcher.changed.clear()
        if self._is_closed:
            raise errors.Unavailable("the name server is stopping")

    def _announce(self, what: str, infos: Sequence[ServerInfo]) -> None:
        for info in infos:
            log.info("%s: %s %r at %s", what, info.protocol, info.name, info.url)
        for watcher in self._watchers:
            if any(watcher.sees(info) for info in infos):
                watcher.changed.set()

    async def expire_forever(self) -> None:
        """Unlists what was not renewed in time. Runs as long as the server."""
        while True:
            now = self._clock()
            next_expiry = self._registry.next_expiry
            # Nothing that comes in meanwhile can end before one lease is over.
            until = now + self.lease_s if next_expiry is None else max(next_expiry, now)
            await asyncio.sleep(until - now)
            if self._clock() - until > OVERSLEPT_S:
                log.warning("woke %.1f s late; engines get another chance to renew", self._clock() - until)
                await asyncio.sleep(self.lease_s / 2)
            if ended := self._registry.expire(self._clock()):
                self._announce("unlisted, its lease ended", ended)

    async def close(self) -> None:
        """Ends every wait and watch, so that none holds up the stop of the server."""
        self._is_closed = True
        for watcher in self._watchers:
            watcher.changed.set()
