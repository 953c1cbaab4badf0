"""The front door as one app: the name server's routes, the relayed chat, and what probes ask."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass

from fastapi import FastAPI, Response

import modelengine
from modelengine import errors
from modelengine.exposition import Exposition
from modelengine.registry import Registry
from modelengine_api import doors, observing, surface
from modelengine_api.metrics import Requests
from modelengine_gateway import loops, metrics, nameserver
from modelengine_gateway.balance import Balance
from modelengine_gateway.configmaps import ConfigMaps
from modelengine_gateway.directory import Directory
from modelengine_gateway.leases import Leases
from modelengine_gateway.proxy import Relay
from modelengine_gateway.settings import RegistryKind, Settings
from modelengine_gateway.upstream import Upstream

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FrontDoor:
    """The app, the directory that must be closed before the app stops, and where its metrics are."""

    app: FastAPI
    directory: Directory
    exposition: Exposition


def create(settings: Settings) -> FrontDoor:
    upstream = Upstream()
    directory = _directory(settings, upstream)
    keeping: list[asyncio.Task[None]] = []
    exposition = Exposition(metrics.PART, settings.listen_host, settings.metrics_port)
    requests = Requests(exposition.registry)
    measured = metrics.FrontDoorMetrics(directory, requests)
    exposition.registry.register(measured)
    exposition.looks.append(measured.look)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with upstream, exposition.served():
            keeping.append(asyncio.create_task(_keep(directory)))
            yield
            keeping[0].cancel()
            await asyncio.wait(keeping)

    app = FastAPI(
        title="ModelEngine",
        version=modelengine.__version__,
        lifespan=lifespan,
        routes=[*nameserver.look_ups(directory), *nameserver.refusals(directory)],
    )
    surface.mount(app, Relay(directory, upstream, Balance()))
    app.add_middleware(loops.NoLoops)
    app.include_router(nameserver.routes(directory))

    @app.get("/")
    async def what_is_this() -> Response:
        return doors.answer(f"ModelEngine {modelengine.__version__}: a name server and front door to chat models")

    @app.get("/health")
    async def health() -> Response:
        """Would a restart help?"""
        if keeping[0].done():
            raise errors.Unavailable("the directory of names is not kept any more; the log says why")
        return doors.answer("ready")

    @app.get("/ready")
    async def ready() -> Response:
        """Are look-ups answered truly?"""
        if reason := directory.why_not_ready():
            raise errors.Unavailable(reason)
        return doors.answer("ready")

    # Last, and so around all of it.
    app.add_middleware(observing.Observed, tally=requests)
    return FrontDoor(app, directory, exposition)


def _directory(settings: Settings, upstream: Upstream) -> Directory:
    if settings.registry is RegistryKind.MEMORY:
        return Leases(Registry(settings.lease_s), upstream.is_ready)
    from modelengine_gateway import cluster

    return ConfigMaps(cluster.Registries(settings.namespaces), settings.own_namespace, upstream.is_ready)


async def _keep(directory: Directory) -> None:
    """Says at once why it ended, not only when the server stops."""
    try:
        await directory.keep()
    except Exception:
        log.exception("the directory of names is not kept any more")
