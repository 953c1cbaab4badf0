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
from modelengine.registry import Registry
from modelengine_api import doors, openapi, surface
from modelengine_gateway import loops, nameserver
from modelengine_gateway.configmaps import ConfigMaps
from modelengine_gateway.directory import Directory
from modelengine_gateway.dispatch import Dispatch, Waiting
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
    """The app, and the directory that must be closed before the app stops."""

    app: FastAPI
    directory: Directory


def create(settings: Settings) -> FrontDoor:
    upstream = Upstream()
    directory = _directory(settings, upstream)
    loads, outliers = Loads(), Outliers()
    waiting = Waiting(settings.queue_length, settings.queue_s)
    dispatch = Dispatch(directory, upstream, loads, outliers, waiting)
    reports = LoadReports(directory, upstream, loads, outliers.forget)
    keeping: list[asyncio.Task[None]] = []

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with upstream:
            keeping.append(asyncio.create_task(_keep(directory)))
            keeping.append(asyncio.create_task(reports.keep()))
            yield
            for task in keeping:
                task.cancel()
            await asyncio.wait(keeping)

    app = FastAPI(
        title="ModelEngine",
        version=modelengine.__version__,
        lifespan=lifespan,
        telemetry=surface.NO_TELEMETRY,
        routes=[*nameserver.look_ups(directory), *nameserver.refusals(directory)],
    )
    surface.mount(app, Relay(directory, dispatch, _deadlines(settings)))
    app.add_middleware(loops.NoLoops)
    app.include_router(nameserver.routes(directory))

    probed = openapi.operation(answer=str)

    @app.get("/health", openapi_extra=probed)
    async def health() -> Response:
        """Would a restart help?"""
        if keeping[0].done():
            raise errors.Unavailable("the directory of names is not kept any more; the log says why")
        return doors.answer("ready")

    @app.get("/ready", openapi_extra=probed)
    async def ready() -> Response:
        """Are look-ups answered truly?"""
        if reason := directory.why_not_ready():
            raise errors.Unavailable(reason)
        return doors.answer("ready")

    return FrontDoor(app, directory)


def _directory(settings: Settings, upstream: Upstream) -> Directory:
    if settings.registry is RegistryKind.MEMORY:
        return Leases(Registry(settings.lease_s), upstream.is_ready)
    from modelengine_gateway import cluster

    return ConfigMaps(cluster.Registries(settings.namespaces), settings.own_namespace, upstream.is_ready)


def _deadlines(settings: Settings) -> Deadlines:
    return Deadlines(settings.first_byte_s, settings.between_bytes_s, settings.answer_s)


async def _keep(directory: Directory) -> None:
    """Says at once why it ended, not only when the server stops."""
    try:
        await directory.keep()
    except Exception:
        log.exception("the directory of names is not kept any more")
