"""Keeps a copy of some objects true: list, watch from there, and list again whenever the watch is in doubt.

A watch is only a hint: it may end, break, skip or fall silent. So the copy is made anew by a list after every break
and at least every `resync_s`, and `age_s` says how old the last word from the server is.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping

from modelengine_kube import errors
from modelengine_kube.api import KubeApi, Object
from modelengine_kube.copies import Copy, Key, OnChange
from modelengine_kube.resources import Resource

log = logging.getLogger(__name__)

FIRST_BACK_OFF_S = 0.2
LAST_BACK_OFF_S = 10.0


class Reflector:
    """A copy of the objects of one kind, by (namespace, name); `run_forever` keeps it."""

    def __init__(
        self,
        api: KubeApi,
        resource: Resource,
        namespace: str | None,
        on_change: OnChange,
        *,
        labels: str = "",
        fields: str = "",
        resync_s: float = 120.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._resource = resource
        self.namespace = namespace
        self._select = {"labels": labels, "fields": fields}
        self._resync_s = resync_s
        self._clock = clock
        self._copy = Copy(on_change)
        self._heard_at: float | None = None
        self._failure: errors.KubeError | None = None
        self._synced = asyncio.Event()

    @property
    def is_synced(self) -> bool:
        """Whether there has been a first list."""
        return self._synced.is_set()

    async def wait_synced(self) -> None:
        await self._synced.wait()

    @property
    def age_s(self) -> float:
        """Seconds since the server last said something; infinite before the first list."""
        return float("inf") if self._heard_at is None else self._clock() - self._heard_at

    @property
    def failure(self) -> errors.KubeError | None:
        """What went wrong since the last list, if anything did."""
        return self._failure

    @property
    def objects(self) -> Mapping[Key, Object]:
        return self._copy.objects

    def learn(self, obj: Object) -> None:
        """Takes what the server answered to a write, so that the next look does not see the state before it."""
        self._copy.learn(obj)

    async def run_forever(self) -> None:
        """Follows the server until it is cancelled; an API server that is away is asked again, ever more seldom."""
        back_off_s = FIRST_BACK_OFF_S
        while True:
            started, at_least_s = self._clock(), 0.0
            try:
                await self._follow()
            except errors.Gone:
                log.info("%s: the watch fell behind; listing again", self._resource.plural)
            except errors.KubeError as failure:
                self._failure = failure
                at_least_s = failure.retry_after_s or 0.0
                log.warning("%s: %s; listing again", self._resource.plural, failure.message)
            if self._clock() - started > LAST_BACK_OFF_S:
                back_off_s = FIRST_BACK_OFF_S
            # However a watch ended: a server that ends each at once is not asked in a circle. With jitter, so that many
            # do not come back to a server at the same moment.
            await asyncio.sleep(max(at_least_s, back_off_s * random.uniform(0.5, 1.0)))
            back_off_s = min(back_off_s * 2, LAST_BACK_OFF_S)

    async def _follow(self) -> None:
        """One list and the watch after it, until it ends or is due for the next list."""
        listing = await self._api.list(self._resource, self.namespace, **self._select)
        self._heard_at = self._clock()
        self._failure = None
        self._copy.replace(listing)
        self._synced.set()
        watch = self._api.watch(
            self._resource, self.namespace, listing.resource_version, **self._select, seconds=self._resync_s
        )
        async for event in watch:
            self._heard_at = self._clock()
            if event.type == "DELETED":
                self._copy.forget(event.object)
            elif event.type != "BOOKMARK":
                self._copy.learn(event.object)
