"""The directory of one machine: engines enter themselves, and leave with their lease, by a farewell or by a report.

The facts are in a Registry, which is pure; here are the clock, and the question to an engine before it is listed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from modelengine import errors
from modelengine.protocol import ServerInfo
from modelengine.registry import Registry
from modelengine_gateway.directory import Directory, Probe

log = logging.getLogger(__name__)

# Woken so late, this process was stopped or starved, and the engines had no chance to renew.
OVERSLEPT_S = 1.0


@dataclass(frozen=True, eq=False, slots=True)
class Arrival:
    """One registration that waits for its engine's answer."""

    info: ServerInfo


class Leases(Directory):
    """Lists what is: an entry comes in only when its engine answers."""

    def __init__(self, registry: Registry, probe: Probe, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__("in memory", probe)
        self._registry = registry
        self._clock = clock
        # Who is being asked before being listed; whoever deregisters meanwhile is taken out.
        self._arrivals: set[Arrival] = set()

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

    def lists(self, info: ServerInfo) -> bool:
        return info in self._registry

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

    def unlist(self, info: ServerInfo) -> None:
        """It comes again by itself if it lives: its next renewal enters it anew."""
        if self._registry.deregister(info):
            self.ejections += 1
            self._announce("unlisted, it does not answer", [info])

    async def _arrives(self, info: ServerInfo) -> bool:
        """Whether the engine answers, and has not left meanwhile."""
        arrival = Arrival(info)
        self._arrivals.add(arrival)
        try:
            return await self._is_ready(info) and arrival in self._arrivals
        finally:
            self._arrivals.discard(arrival)

    async def keep(self) -> None:
        """Unlists what was not renewed in time."""
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
