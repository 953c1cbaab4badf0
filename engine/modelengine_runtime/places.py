"""How many requests an engine has taken: the bound of its queue, and what it tells of its load.

Both kinds of engine take a place before they do anything for a request: a burst that is counted only once its texts are
tokenized is bounded by nothing, and front doors go on sending to an engine that seems idle. Places are taken and given
back on the event loop only.
"""

from __future__ import annotations

from types import TracebackType

from modelengine import errors


class Place:
    """Of one request. As a context it is given back at the end."""

    def __init__(self, places: Places) -> None:
        self._places: Places | None = places

    def give_back(self) -> None:
        """Harmless when it was given back before."""
        if self._places is not None:
            self._places.taken -= 1
            self._places = None

    def __enter__(self) -> Place:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.give_back()


class Places:
    """So many requests may be in work or wait."""

    def __init__(self, most: int) -> None:
        self.taken = 0
        self._most = most

    def take(self) -> Place:
        """Raises Busy where none is left."""
        if self.taken >= self._most:
            raise errors.Busy(f"the queue is full: {self.taken} requests are in work or wait", retry_after_s=1.0)
        self.taken += 1
        return Place(self)

    def waiting(self, running: int) -> int:
        """Those that do not run: their texts are tokenized, their grammars compiled, or they stand in line."""
        return max(0, self.taken - running)
