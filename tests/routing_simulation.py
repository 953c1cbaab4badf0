"""Front doors and replicas without a socket: the real decisions, a clock of its own, reports that are late.

Replicas report every REPORT_S, which front doors hear UNDER_WAY_S later; each knows at once what it opened itself.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import random
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from modelengine.protocol import EngineLoad, ServerInfo
from modelengine_gateway import balance
from modelengine_gateway.loads import Loads

REPORT_S, UNDER_WAY_S = 0.05, 0.005
Pick = Callable[[Mapping[ServerInfo, int], bytes | None], ServerInfo | None]


def replicas(count: int) -> list[ServerInfo]:
    return [ServerInfo("demo", f"10.0.0.{i + 1}", 8000) for i in range(count)]


@dataclass
class World:
    """`pick` decides at every front door. Loads are looked at every REPORT_S, from `settled_s` on."""

    services: Sequence[ServerInfo]
    front_doors: int
    chance: random.Random
    pick: Pick = balance.pick
    settled_s: float = 0.0
    reports: bool = True
    now: float = 0.0
    open: Counter[ServerInfo] = field(default_factory=Counter)
    seen: Counter[ServerInfo] = field(default_factory=Counter)
    spread: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._doors = [Loads() for _ in range(self.front_doors)]
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def at(self, when: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), act))

    def request(self, seconds: float, key: bytes | None, done: Callable[[ServerInfo], None] = lambda _: None) -> None:
        """One request through any front door, which takes so long; `done` is told where it was."""
        loads = self.chance.choice(self._doors)
        at = self.pick({info: loads.of(info) for info in self.services}, key)
        assert at is not None
        lease = contextlib.ExitStack()
        lease.enter_context(loads.lease(at))
        self.open[at] += 1

        def end() -> None:
            self.open[at] -= 1
            lease.close()
            done(at)

        self.at(self.now + seconds, end)

    def run(self, until: float) -> None:
        self.at(0.0, self._report)
        while self._events and self._events[0][0] <= until:
            self.now, _, act = heapq.heappop(self._events)
            act()

    def _report(self) -> None:
        requests = {info: self.open[info] for info in self.services}
        if self.reports:
            self.at(self.now + UNDER_WAY_S, lambda: self._hear(requests))
        if self.now >= self.settled_s:
            self.seen.update({info: self.open[info] for info in self.services})
            now = [self.open[info] for info in self.services]
            if sum(now):
                self.spread.append((max(now) - min(now)) / (sum(now) / len(now)))
        self.at(self.now + REPORT_S, self._report)

    def _hear(self, requests: Mapping[ServerInfo, int]) -> None:
        for loads in self._doors:
            for info, count in requests.items():
                loads.reported(info, EngineLoad(count, 0))

    @property
    def difference(self) -> float:
        """How much more than the least busy the busiest replica had to do, over the whole time, as a share."""
        mean = sum(self.seen.values()) / len(self.services)
        return (max(self.seen[info] for info in self.services) - min(self.seen[info] for info in self.services)) / mean


class RoundRobin:
    def __init__(self) -> None:
        self._turns = itertools.count()

    def __call__(self, loads: Mapping[ServerInfo, int], key: bytes | None) -> ServerInfo | None:
        services = list(loads)
        return services[next(self._turns) % len(services)]


class Caches:
    """What replicas remember: of so many conversations each, the turns that were taken in there."""

    def __init__(self, conversations: int) -> None:
        self._most = conversations
        self._known: dict[ServerInfo, OrderedDict[bytes, int]] = {}
        self.asked = self.hit = 0

    def take_in(self, at: ServerInfo, key: bytes, turns: int) -> None:
        known = self._known.setdefault(at, OrderedDict())
        self.asked += turns
        self.hit += min(known.pop(key, 0), turns)
        known[key] = turns
        if len(known) > self._most:
            known.popitem(last=False)

    @property
    def hit_rate(self) -> float:
        return self.hit / self.asked


def poisson(world: World, per_s: float, seconds: float, until: float, key: Callable[[], bytes | None]) -> None:
    """Requests at random times, each of a random length, `seconds` in the mean."""

    def arrive() -> None:
        world.request(world.chance.expovariate(1 / seconds), key())
        if world.now < until:
            world.at(world.now + world.chance.expovariate(per_s), arrive)

    world.at(0.0, arrive)


def replay(world: World, caches: Caches, conversations: int, turns: int) -> None:
    """Conversations whose turns follow one another, with pauses in which the user thinks."""

    def turn(key: bytes, number: int) -> None:
        def done(at: ServerInfo) -> None:
            caches.take_in(at, key, number)
            if number < turns:
                world.at(world.now + world.chance.expovariate(1.0), lambda: turn(key, number + 1))

        world.request(world.chance.expovariate(2.0), key, done)

    for i in range(conversations):
        key = b"conversation %d" % i
        world.at(world.chance.uniform(0, 2), lambda key=key: turn(key, 1))  # type: ignore[misc]
