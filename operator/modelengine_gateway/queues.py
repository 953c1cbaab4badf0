"""Requests that wait for a replica, in the order in which they came: one line for each model.

Whoever is called tries his luck; who is refused again has kept his place. A refusal comes at once, so who is not back
after a whole tick has been taken, however long his answer lasts: he stands in nobody's way. How many are called at once
doubles as long as nobody comes back: what has room again is not known here, and a thousand must neither wait for one
another's answers nor all run at one free place.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from modelengine import errors


@dataclass(order=True, slots=True)
class Place:
    number: int
    called: asyncio.Event = field(default_factory=asyncio.Event, compare=False)


class Line:
    """At most `longest` wait. `tick` is said again and again while anybody is in it; `call` whenever one left."""

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._numbers = itertools.count()
        self._waiting: list[Place] = []
        # Who is called and may come back yet, by number: those of this tick, and those of the last one.
        self._trying: dict[int, Place] = {}
        self._trying_longer: dict[int, Place] = {}
        self._holders = 0
        self._at_once = 1

    def __len__(self) -> int:
        """How many stand here, those who are called just now included."""
        return len(self._waiting) + len(self._trying) + len(self._trying_longer)

    @property
    def is_left(self) -> bool:
        """Whether nobody has a place any more, not even one who was taken and might be refused after all."""
        return not self._holders

    @contextmanager
    def place(self, refusal: errors.ModelEngineError) -> Iterator[Place]:
        """A place at the end. Raises the refusal where there is none."""
        if len(self) >= self._longest:
            raise refusal
        self._holders += 1
        place = Place(next(self._numbers))
        heapq.heappush(self._waiting, place)
        try:
            yield place
        finally:
            self._holders -= 1
            self._forget(place)
            if place in self._waiting:
                self._waiting.remove(place)
                heapq.heapify(self._waiting)

    def back(self, place: Place) -> None:
        """He was refused again."""
        self._at_once = 1
        self._forget(place)
        place.called.clear()
        heapq.heappush(self._waiting, place)

    def call(self, count: int = 1) -> None:
        """The first `count` may try."""
        for _ in range(min(count, len(self._waiting))):
            place = heapq.heappop(self._waiting)
            self._trying[place.number] = place
            place.called.set()

    def tick(self) -> None:
        self._trying_longer, self._trying = self._trying, {}
        if self._waiting:
            self.call(self._at_once)
            self._at_once *= 2
        else:
            self._at_once = 1

    def _forget(self, place: Place) -> None:
        self._trying.pop(place.number, None)
        self._trying_longer.pop(place.number, None)
