"""The directory of a cluster: what the operator wrote into the registry ConfigMaps, less who was found dead.

Nothing is entered here: the operator lists a pod once it is ready. While the API server is away, the last that was
heard stands. A replica that the front door could not reach is taken out at once, however long the registry still names
it, and let in again when it says that it is ready; the registry may replace it meanwhile by another pod.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Protocol

from modelengine import errors
from modelengine.protocol import ServerInfo
from modelengine.registry_configmap import Service
from modelengine_gateway.catalog import Catalog, Name, Told
from modelengine_gateway.directory import Directory, Probe, background

log = logging.getLogger(__name__)

PROBE_EVERY_S = 1.0
# The operator writes a deleted registry anew within seconds; only then is it believed that there is none.
KEEP_DELETED_S = 5.0
SHOWN_COMPLAINTS = 3

# The registry of the namespace now holds this; None: it is deleted.
OnRegistry = Callable[[str, Mapping[str, Any] | None], None]


class Source(Protocol):
    """Whoever follows the registries; `cluster.Registries` in a cluster."""

    kind: str

    def follow(self, on_registry: OnRegistry) -> Awaitable[None]: ...
    def why_not_ready(self) -> str | None: ...
    def details(self) -> Mapping[str, Any]: ...


class ConfigMaps(Directory):
    """Lists the replicas that the registries name and that nobody here found dead."""

    def __init__(self, source: Source, own_namespace: str, probe: Probe) -> None:
        super().__init__(source.kind, probe)
        self._source = source
        self._catalog = Catalog(own_namespace)
        self._revision = 0
        # Protocol -> name -> replicas.
        self._listed: dict[str, dict[str, list[ServerInfo]]] = {}
        # Who was found dead, each with the task that asks it until it answers.
        self._ejected: dict[Service, asyncio.Task[None]] = {}
        self._deleted: dict[str, asyncio.TimerHandle] = {}
        # Whose namespaces it was said of that another hides the name.
        self._warned: dict[Name, set[str]] = {}

    @property
    def revision(self) -> int:
        return self._revision

    def services(self, protocol: str, name: str) -> list[ServerInfo]:
        return list(self._listed.get(protocol, {}).get(name, ()))

    def names(self, protocol: str) -> list[str]:
        return sorted(self._listed.get(protocol, ()))

    def all(self) -> list[ServerInfo]:
        return [
            info
            for protocol in sorted(self._listed)
            for name in self.names(protocol)
            for info in self._listed[protocol][name]
        ]

    def known(self) -> list[Name]:
        return sorted(self._catalog.names(), key=lambda known: known[::-1])

    def missing(self, protocol: str, name: str) -> errors.ModelEngineError:
        entry = self._catalog.entry((protocol, name))
        if entry is None:
            return super().missing(protocol, name)
        how = "answers now" if entry.services else "is ready now"
        return errors.Unavailable(f"no replica of {name!r} {how}", retry_after_s=PROBE_EVERY_S)

    def why_not_ready(self) -> str | None:
        return self._source.why_not_ready()

    def details(self) -> Mapping[str, Any]:
        return self._source.details()

    async def keep(self) -> None:
        try:
            await self._source.follow(self.take)
        finally:
            for asking in self._ejected.values():
                asking.cancel()
            for timer in self._deleted.values():
                timer.cancel()

    def take(self, namespace: str, data: Mapping[str, Any] | None) -> None:
        """The registry of the namespace now holds this; None: it was deleted, and may come again in a moment."""
        if waiting := self._deleted.pop(namespace, None):
            waiting.cancel()
        if data is None:
            log.warning("the registry of namespace %s is deleted; its names stand for %g s", namespace, KEEP_DELETED_S)
            loop = asyncio.get_running_loop()
            self._deleted[namespace] = loop.call_later(KEEP_DELETED_S, self._drop, namespace)
        else:
            told = self._catalog.take(namespace, data)
            _complain(namespace, told.complaints)
            self._apply(told)

    def _drop(self, namespace: str) -> None:
        del self._deleted[namespace]
        self._apply(self._catalog.drop(namespace))

    def _apply(self, told: Told) -> None:
        for service in [service for service in self._ejected if not self._catalog.holds(service)]:
            self._ejected.pop(service).cancel()
        for name in told.changed:
            self._warn_of_shadows(name)
        self._relist(told.changed, "unlisted, the registry does not name it any more")

    def unreachable(self, info: ServerInfo) -> None:
        self.unlist(info)

    def unlist(self, info: ServerInfo) -> None:
        name = info.protocol, info.name
        entry = self._catalog.entry(name)
        for service in entry.services if entry else ():
            if service.info == info and service not in self._ejected:
                self.ejections += 1
                self._ejected[service] = background(self._until_ready(service))
        self._relist([name], "unlisted, it does not answer")

    async def _until_ready(self, service: Service) -> None:
        """Lets the replica in again. Asks at once first: it may have refused one connection only."""
        while not await self._is_ready(service.info):
            await asyncio.sleep(PROBE_EVERY_S)
        del self._ejected[service]
        self._relist([(service.info.protocol, service.info.name)])

    def _relist(self, names: Iterable[Name], why_gone: str = "") -> None:
        """Lists anew what these names have, and tells of the difference."""
        for protocol, name in names:
            before = self._listed.get(protocol, {}).get(name, [])
            after = self._routable((protocol, name))
            if before == after:
                continue
            self._revision += 1
            listed = self._listed.setdefault(protocol, {})
            listed[name] = after
            if not after:
                del listed[name]
            self._announce("listed", [info for info in after if info not in before])
            self._announce(why_gone, [info for info in before if info not in after])

    def _routable(self, name: Name) -> list[ServerInfo]:
        entry = self._catalog.entry(name)
        services = entry.services if entry else ()
        # Two pods at one address are a pod and its follower: nobody should be asked twice.
        return list(dict.fromkeys(service.info for service in services if service not in self._ejected))

    def _warn_of_shadows(self, name: Name) -> None:
        owner, shadowed = self._catalog.shadowed(name)
        warned = self._warned.pop(name, set())
        for namespace in shadowed:
            if namespace not in warned:
                log.warning("%s %r of namespace %s is hidden by the one of namespace %s", *name, namespace, owner)
        if shadowed:
            self._warned[name] = set(shadowed)


def _complain(namespace: str, complaints: list[str]) -> None:
    for complaint in complaints[:SHOWN_COMPLAINTS]:
        log.warning("the registry of namespace %s: %s", namespace, complaint)
    if (more := len(complaints) - SHOWN_COMPLAINTS) > 0:
        log.warning("the registry of namespace %s: %d more like this", namespace, more)
