"""Which replica gets the next request: the one with the fewest requests of this front door still open."""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from modelengine.protocol import ServerInfo


class Balance:
    """Counts the open requests of each replica. `pick` asks, `lease` takes, and gives back at its end."""

    def __init__(self, choose: Callable[[Sequence[ServerInfo]], ServerInfo] = random.choice) -> None:
        self._open: Counter[ServerInfo] = Counter()
        self._choose = choose

    def pick(self, services: Sequence[ServerInfo]) -> ServerInfo | None:
        """The least busy of these, by chance among equals; None when there is none."""
        if not services:
            return None
        fewest = min(self._open[info] for info in services)
        return self._choose([info for info in services if self._open[info] == fewest])

    def open_requests(self, info: ServerInfo) -> int:
        return self._open[info]

    @contextlib.contextmanager
    def lease(self, info: ServerInfo) -> Iterator[None]:
        self._open[info] += 1
        try:
            yield
        finally:
            self._open[info] -= 1
            if not self._open[info]:
                del self._open[info]
