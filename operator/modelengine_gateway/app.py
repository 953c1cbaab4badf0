"""The front door as one app: the name server's routes, the relayed chat, and what probes ask."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Response

import modelengine
from modelengine import errors
from modelengine.exposition import Exposition
from modelengine.registry import Registry
from modelengine_api import doors, observing, openapi, surface
from modelengine_api.hosts import Hosts
from modelengine_api.metrics import Requests
from modelengine_api.ollama.routes import is_running
from modelengine_gateway import access, keys, loops, metrics, nameserver, page
from modelengine_gateway.configmaps import ConfigMaps
from modelengine_gateway.directory import Directory
from modelengine_gateway.dispatch import Dispatch, Waiting
from modelengine_gateway.keyfile import KeyFile
from modelengine_gateway.leases import Leases
from modelengine_gateway.loads import Loads
from modelengine_gateway.outliers import Outliers
from modelengine_gateway.proxy import Relay
from modelengine_gateway.reports import LoadReports
from modelengine_gateway.settings import RegistryKind, Settings
from modelengine_gateway.upstream import Deadlines, Upstream

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
    key_file = _key_file(settings)
    loads, outliers = Loads(), Outliers()
    waiting = Waiting(settings.queue_length, settings.queue_s)
    dispatch = Dispatch(directory, upstream, loads, outliers, waiting)
    reports = LoadReports(directory, upstream, loads, on_gone=[outliers.forget, upstream.forget])
    keeping: list[asyncio.Task[None]] = []
    exposition = Exposition(metrics.PART, settings.listen_host, settings.metrics_port)
    requests = Requests(exposition.registry)
    measured = metrics.FrontDoorMetrics(directory, requests, loads, reports)
    exposition.registry.register(measured)
    exposition.looks.append(measured.look)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with upstream, exposition.served():
            keeping.append(_kept("directory of names", directory.keep()))
            if key_file is not None:
                keeping.append(_kept("file of API keys", key_file.keep()))
            keeping.append(_kept("engines' reports of load", reports.keep()))
            yield
            for task in keeping:
                task.cancel()
            await asyncio.wait(keeping)

    app = FastAPI(
        title="ModelEngine",
        version=modelengine.__version__,
        lifespan=lifespan,
        telemetry=surface.NO_TELEMETRY,
        routes=[*nameserver.look_ups(directory), *nameserver.refusals(directory), *page.Page().routes(is_running)],
    )
    relay = Relay(directory, dispatch, loads, _deadlines(settings))
    surface.mount(app, relay if key_file is None else access.Guarded(relay))
    if key_file is not None:
        app.add_middleware(access.Door, file=key_file)
    app.add_middleware(Hosts, policy=settings.pages)
    app.add_middleware(loops.NoLoops)
    app.include_router(nameserver.routes(directory))

    probed = openapi.operation(answer=str)

    @app.get("/health", openapi_extra=probed)
    async def health() -> Response:
        """Would a restart help?"""
        ended = [task.get_name() for task in keeping if task.done()]
        if ended and not directory.is_closed:
            raise errors.Unavailable(f"not kept any more: {', '.join(ended)}; the log says why")
        return doors.answer("ready")

    @app.get("/ready", openapi_extra=probed)
    async def ready() -> Response:
        """Are look-ups answered truly?"""
        if reason := directory.why_not_ready():
            raise errors.Unavailable(reason)
        return doors.answer("ready")

    # Last, and so around all of it.
    app.add_middleware(observing.Observed, tally=requests)
    return FrontDoor(app, directory, exposition)


def _key_file(settings: Settings) -> KeyFile | None:
    if not settings.api_keys:
        return None
    own = [keys.entry(keys.OWN, {"key": settings.own_key, "scopes": list(keys.Opens)})] if settings.own_key else []
    return KeyFile(Path(settings.api_keys), own)


def _directory(settings: Settings, upstream: Upstream) -> Directory:
    if settings.registry is RegistryKind.MEMORY:
        return Leases(Registry(settings.lease_s), upstream.is_ready)
    from modelengine_gateway import cluster

    return ConfigMaps(cluster.Registries(settings.namespaces), settings.own_namespace, upstream.is_ready)


def _deadlines(settings: Settings) -> Deadlines:
    return Deadlines(settings.first_byte_s, settings.between_bytes_s, settings.answer_s)


def _kept(what: str, keep: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """A task that runs as long as the server, and says at once why it ended, not only when the server stops."""

    async def kept() -> None:
        try:
            await keep
        except Exception:
            log.exception("not kept any more: %s", what)

    return asyncio.create_task(kept(), name=what)
