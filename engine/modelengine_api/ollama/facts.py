"""What the models say about themselves, for lists of all of them: asked side by side, and remembered for a while.

Pages that list models ask every few seconds, and what they show of a model does not change while it is served.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping

from modelengine import errors
from modelengine_api.backend import Backend, ModelCard
from modelengine_api.ollama.listings import Told

FRESH_S = 10.0
# An engine that says nothing must not hold up a list of all models for longer.
PATIENCE_S = 2.0
AT_ONCE = 16


class Facts:
    def __init__(self, backend: Backend, now_s: Callable[[], float] = time.time) -> None:
        self._backend = backend
        self._now_s = now_s
        self._told: dict[str, Told] = {}
        self._turn = asyncio.Semaphore(AT_ONCE)

    async def of(self, cards: Iterable[ModelCard]) -> Mapping[str, Told]:
        """By name, what each model that has a replica said; a model that does not answer said nothing."""
        names = [card.name for card in cards if card.replicas]
        # What is not served any more is forgotten.
        self._told = {name: told for name, told in self._told.items() if name in names}
        stale = [name for name in names if not self._is_fresh(name)]
        self._told.update(zip(stale, await asyncio.gather(*map(self._ask, stale)), strict=True))
        return {name: self._told[name] for name in names if name in self._told}

    def _is_fresh(self, name: str) -> bool:
        told = self._told.get(name)
        return told is not None and 0 <= self._now_s() - told.at_s < FRESH_S

    async def _ask(self, name: str) -> Told:
        async with self._turn:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    info = await self._backend.info(name)
            except (errors.ModelEngineError, TimeoutError):
                info = {}
            return Told(info, self._now_s())
