"""Requests that wait for a replica, in the order in which they came: one line for each model.

Whoever is called tries his luck; who is refused again has kept his place. How many are called at once doubles as long
as nobody comes back: what has room again is not known here, and a thousand must neither wait for one another's answers
nor all run at one free place.
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
    """At most `longest` wait. `call_some` is said again and again while somebody does; `call` whenever one left."""

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._numbers = itertools.count()
        self._waiting: list[Place] = []
        self._places = 0
        self._at_once = 1

    def __len__(self) -> int:
        """How many stand here, those who are called just now included."""
        return self._places

    @contextmanager
    def place(self, refusal: errors.ModelEngineError) -> Iterator[Place]:
        """A place at the end. Raises the refusal where there is none."""
        if self._places >= self._longest:
            raise refusal
        self._places += 1
        place = Place(next(self._numbers))
        heapq.heappush(self._waiting, place)
        try:
            yield place
        finally:
            self._places -= 1
            if place in self._waiting:
                self._waiting.remove(place)
                heapq.heapify(self._waiting)

    def back(self, place: Place) -> None:
        """He was refused again."""
        self._at_once = 1
        place.called.clear()
        heapq.heappush(self._waiting, place)

    def call(self, count: int = 1) -> None:
        """The first `count` may try."""
        for _ in range(min(count, len(self._waiting))):
            heapq.heappop(self._waiting).called.set()

    def call_some(self) -> None:
        self.call(self._at_once)
        self._at_once *= 2
