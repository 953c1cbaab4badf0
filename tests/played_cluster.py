"""A front door over the registry of a cluster that is only told of: names with replicas, and names without."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any
from unittest import mock

from fakes import FakeEngine
from modelengine import registry_configmap
from modelengine.protocol import ServerInfo
from modelengine.registry_configmap import Entry, Service
from modelengine_gateway import app
from modelengine_gateway.configmaps import ConfigMaps, OnRegistry
from modelengine_gateway.settings import Settings
from modelengine_gateway.upstream import Upstream
from servers import running


class Told:
    """A source of registries that tells once."""

    kind = "1 namespace's ConfigMaps"

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._data = registry_configmap.encode(entries)

    async def follow(self, on_registry: OnRegistry) -> None:
        on_registry("default", self._data)
        await asyncio.Event().wait()

    def why_not_ready(self) -> str | None:
        return None

    def details(self) -> Mapping[str, Any]:
        return {}


def open_front_door(stack: ExitStack, fakes: Sequence[FakeEngine], asleep: Sequence[str]) -> str:
    """A front door of a cluster: the engines are its pods, the names asleep have none. Gives its `host:port`."""
    services: dict[str, list[Service]] = {name: [] for name in asleep}
    for i, fake in enumerate(fakes):
        info = ServerInfo(fake.name, "127.0.0.1", stack.enter_context(running(fake.app(), grace_s=0)))
        services.setdefault(fake.name, []).append(Service(info, f"uid-{i}", f"{fake.name}-{i}"))
    entries = [Entry(name, "chat", "engine", name, tuple(found)) for name, found in sorted(services.items())]

    def directory(_: Settings, upstream: Upstream) -> ConfigMaps:
        return ConfigMaps(Told(entries), "default", upstream.is_ready)

    with mock.patch.object(app, "_directory", directory):
        door = app.create(Settings(queue_s=0))
    return f"127.0.0.1:{stack.enter_context(running(door.app, on_stop=door.directory.close))}"
