"""Lists the ModelEngines from time to time and compares: what no event told is put right, and noticed.

A watch that stays silent while the list shows changes is dead, whatever its process says. Then the liveness probe fails
and the operator is started anew.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from modelengine_kube import errors, resources
from modelengine_kube.api import KubeApi, Listing
from modelengine_kube.copies import Copy

log = logging.getLogger(__name__)

EVERY_S = 60.0
# A change may be a moment older than its event; only what stays untold counts.
PATIENCE_S = 10.0
# So many lists in a row with something untold, and the watch is taken for dead.
UNTOLD_LISTS = 3


class Relisting:
    """Keeps the copy of the ModelEngines true beside the watch."""

    def __init__(self, api: KubeApi, copy: Copy, namespaces: Sequence[str]) -> None:
        self._api = api
        self._copy = copy
        self._namespaces = namespaces or (None,)
        self._untold = 0
        self._synced = asyncio.Event()

    async def wait_synced(self) -> None:
        """Until there has been a first list."""
        await self._synced.wait()

    def check(self) -> None:
        """Raises when the watch has missed what several lists in a row have shown."""
        if self._untold >= UNTOLD_LISTS:
            raise RuntimeError(f"the watch told nothing of what {self._untold} lists showed")

    async def run_forever(self) -> None:
        while True:
            try:
                await self._compare()
            except errors.KubeError as failure:
                log.warning("modelengines can't be listed: %s", failure.message)
                await asyncio.sleep(PATIENCE_S if self._synced.is_set() else 1.0)
            else:
                await asyncio.sleep(EVERY_S)

    async def _compare(self) -> None:
        listings = [await self._api.list(resources.MODELENGINES, namespace) for namespace in self._namespaces]
        if self._synced.is_set():
            await asyncio.sleep(PATIENCE_S)
        whole = Listing(
            [obj for listing in listings for obj in listing.items],
            min((listing.resource_version for listing in listings), key=int),
        )
        changes = self._copy.replace(whole)
        if changes and self._synced.is_set():
            log.warning("%d changes of modelengines that no event told", changes)
        self._untold = self._untold + 1 if changes and self._synced.is_set() else 0
        self._synced.set()
