"""Keeps a copy of some objects true: list, watch from there, and list again whenever the watch is in doubt.

A watch is only a hint: it may end, break, skip or fall silent. So the copy is made anew by a list after every break
and at least every `resync_s`, and `age_s` says how old the last word from the server is. Versions are compared as
numbers: an answer to a write of ours (`learn`) may come before the watch tells of it, and is not taken back by it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from modelengine_kube import errors
from modelengine_kube.api import Event, KubeApi, Listing, Object
from modelengine_kube.resources import Resource

log = logging.getLogger(__name__)

FIRST_BACK_OFF_S = 0.2
LAST_BACK_OFF_S = 10.0
Key = tuple[str, str]


class OnChange(Protocol):
    def __call__(self, key: Key, obj: Object | None) -> None:
        """The object is now so; None: it is gone."""


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
        self._namespace = namespace
        self._on_change = on_change
        self._select = {"labels": labels, "fields": fields}
        self._resync_s = resync_s
        self._clock = clock
        self._copy: dict[Key, Object] = {}
        self._heard_at: float | None = None

    @property
    def is_synced(self) -> bool:
        """Whether there has been a first list."""
        return self._heard_at is not None

    @property
    def age_s(self) -> float:
        """Seconds since the server last said something; infinite before the first list."""
        return float("inf") if self._heard_at is None else self._clock() - self._heard_at

    @property
    def objects(self) -> Mapping[Key, Object]:
        return self._copy

    def learn(self, obj: Object) -> None:
        """Takes what the server answered to a write, so that the next look does not see the state before it."""
        key = _key(obj)
        if _number(obj) > _number(self._copy.get(key)):
            self._set(key, obj)

    async def run_forever(self) -> None:
        """Follows the server until it is cancelled; an API server that is away is asked again, ever more seldom."""
        back_off_s = FIRST_BACK_OFF_S
        while True:
            try:
                await self._follow()
                back_off_s = FIRST_BACK_OFF_S
            except errors.Gone:
                log.info("%s: the watch fell behind; listing again", self._resource.plural)
            except errors.KubeError as failure:
                if failure.retry_after_s:
                    back_off_s = max(back_off_s, failure.retry_after_s)
                log.warning("%s: %s; again in %.1f s", self._resource.plural, failure.message, back_off_s)
                # With jitter, so that many do not come back to a server at the same moment.
                await asyncio.sleep(back_off_s * random.uniform(0.5, 1.0))
                back_off_s = min(back_off_s * 2, LAST_BACK_OFF_S)

    async def _follow(self) -> None:
        """One list and the watch after it, until it ends or is due for the next list."""
        listing = await self._api.list(self._resource, self._namespace, **self._select)
        self._heard_at = self._clock()
        self._replace(listing)
        watch = self._api.watch(
            self._resource, self._namespace, listing.resource_version, **self._select, seconds=self._resync_s
        )
        async for event in watch:
            self._heard_at = self._clock()
            self._take(event)

    def _replace(self, listing: Listing) -> None:
        fresh = {_key(item): item for item in listing.items}
        listed_at = int(listing.resource_version)
        for key in self._copy.keys() - fresh.keys():
            # What was learnt while the list was under way is newer than the list.
            if _number(self._copy[key]) <= listed_at:
                self._set(key, None)
        for obj in fresh.values():
            self.learn(obj)

    def _take(self, event: Event) -> None:
        if event.type == "DELETED":
            self._set(_key(event.object), None)
        elif event.type != "BOOKMARK":
            self.learn(event.object)

    def _set(self, key: Key, obj: Object | None) -> None:
        if obj is None:
            if self._copy.pop(key, None) is None:
                return
        else:
            # Who owns which field is the server's business, and half of the object.
            obj["metadata"].pop("managedFields", None)
            self._copy[key] = obj
        self._on_change(key, obj)


def _key(obj: Object) -> Key:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def _number(obj: Object | None) -> int:
    return -1 if obj is None else int(obj["metadata"]["resourceVersion"])
