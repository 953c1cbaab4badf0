"""Follows the registry ConfigMaps of a cluster. The only file of the front door that knows Kubernetes.

Imported only for a directory over ConfigMaps: the client costs half a second of start.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from modelengine import errors, kinds
from modelengine_gateway.configmaps import OnRegistry
from modelengine_kube import connect
from modelengine_kube.api import KubeApi, Object
from modelengine_kube.copies import Key
from modelengine_kube.errors import Forbidden, KubeError
from modelengine_kube.reflector import Reflector
from modelengine_kube.resources import CONFIG_MAPS

log = logging.getLogger(__name__)

# A watch that is alive can still be wrong; so often all is listed anew.
RESYNC_S = 60.0
EVERYWHERE: Sequence[str | None] = [None]


class Registries:
    """The registries of some namespaces, of all when none is given. A `configmaps.Source`."""

    def __init__(self, namespaces: Sequence[str]) -> None:
        self._namespaces = namespaces
        self._reflectors: dict[str | None, Reflector] = {}
        many = {0: "all namespaces'", 1: "1 namespace's"}.get(len(namespaces), f"{len(namespaces)} namespaces'")
        self.kind = f"{many} ConfigMaps"

    async def follow(self, on_registry: OnRegistry) -> None:
        """Tells of each registry, now and whenever it changes, until it is cancelled."""

        def on_change(key: Key, obj: Object | None) -> None:
            on_registry(key[0], None if obj is None else obj.get("data") or {})

        async with await connect.client() as client, asyncio.TaskGroup() as following:
            api = KubeApi(client)
            for namespace in self._namespaces or EVERYWHERE:
                reflector = Reflector(
                    api, CONFIG_MAPS, namespace, on_change, fields=kinds.ONLY_REGISTRIES, resync_s=RESYNC_S
                )
                self._reflectors[namespace] = reflector
                following.create_task(reflector.run_forever())
            await asyncio.gather(*(reflector.wait_synced() for reflector in self._reflectors.values()))
            log.info("%s are read", self.kind)

    def why_not_ready(self) -> str | None:
        """One namespace that was deleted, and our rights with it, must not keep the names of the others away."""
        states = self._reflectors.values()
        if not any(reflector.is_synced for reflector in states):
            return _waiting([reflector.failure for reflector in states])
        unread = [reflector.failure for reflector in states if not reflector.is_synced]
        return _waiting(unread) if not all(isinstance(failure, Forbidden) for failure in unread) else None

    def details(self) -> Mapping[str, Any]:
        ages = [reflector.age_s for reflector in self._reflectors.values() if reflector.is_synced]
        return {
            "namespaces": list(self._namespaces) or "all",
            # How long ago the API server last said something, at worst; it says something at least once a minute.
            "heard_s_ago": round(max(ages), 1) if ages else None,
        }


def _waiting(failures: Sequence[KubeError | None]) -> str:
    reason = next((failure.message for failure in failures if failure is not None), "")
    return f"the registries are not read yet{': ' if reason else ''}{reason}"


def require() -> None:
    """Raises InvalidRequest when this process knows of no cluster, so that it ends with that word at its start."""

    async def try_once() -> None:
        async with await connect.client():
            pass

    try:
        asyncio.run(try_once())
    except KubeError as failure:
        raise errors.InvalidRequest(failure.message) from failure
