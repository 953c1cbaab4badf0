"""Which objects want a look, each at most once in the line and never twice at the same time.

The watches put keys in, the reconciler's workers take them out. A key that is added while it is being worked on comes
again afterwards, so no change is missed; one that failed comes again later and later.
"""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

FIRST_BACK_OFF_S = 0.5
LAST_BACK_OFF_S = 300.0

Key = TypeVar("Key", bound=Hashable)


class WorkQueue(Generic[Key]):
    """For one event loop. `get` and `done` come in pairs."""

    def __init__(self, last_back_off_s: float = LAST_BACK_OFF_S) -> None:
        self._last_back_off_s = last_back_off_s
        self._waiting: OrderedDict[Key, None] = OrderedDict()
        self._working: set[Key] = set()
        self._again: set[Key] = set()
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._failures: dict[Key, int] = {}
        self._added = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_idle(self) -> bool:
        """Nothing waits and nothing is being worked on; what comes by a timer does not count."""
        return not self._waiting and not self._working

    def add(self, key: Key) -> None:
        if key in self._working:
            self._again.add(key)
            return
        self._waiting[key] = None
        self._added.set()

    def add_after(self, key: Key, delay_s: float) -> None:
        """Adds the key later; the sooner of two times counts."""
        when = asyncio.get_running_loop().time() + delay_s
        if (timer := self._timers.get(key)) is not None:
            if timer.when() <= when:
                return
            timer.cancel()
        self._timers[key] = asyncio.get_running_loop().call_at(when, self._ring, key)

    def add_failed(self, key: Key, at_least_s: float = 0.0) -> float:
        """Adds the key after its back-off, which doubles with each failure in a row. Gives the delay in seconds."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay_s = min(FIRST_BACK_OFF_S * 2.0 ** min(failures, 16), self._last_back_off_s) * random.uniform(0.5, 1.0)
        delay_s = max(delay_s, at_least_s)
        self.add_after(key, delay_s)
        return delay_s

    def forget_failures(self, key: Key) -> None:
        self._failures.pop(key, None)

    async def get(self) -> Key:
        while not self._waiting:
            self._added.clear()
            await self._added.wait()
        key, _ = self._waiting.popitem(last=False)
        self._working.add(key)
        if (timer := self._timers.pop(key, None)) is not None:
            timer.cancel()
        return key

    def done(self, key: Key) -> None:
        self._working.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def _ring(self, key: Key) -> None:
        self._timers.pop(key, None)
        self.add(key)
