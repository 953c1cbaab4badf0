"""The front door as one app: the name server's routes, the relayed chat, and what probes ask."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from fastapi import FastAPI, Response

import modelengine
from modelengine.registry import Registry
from modelengine_api import doors, limits, native
from modelengine_gateway import nameserver
from modelengine_gateway.balance import Balance
from modelengine_gateway.directory import Directory
from modelengine_gateway.proxy import Relay
from modelengine_gateway.settings import Settings
from modelengine_gateway.upstream import Upstream


@dataclass(frozen=True, slots=True)
class FrontDoor:
    """The app, and the directory that must be closed before the app stops."""

    app: FastAPI
    directory: Directory


def create(settings: Settings) -> FrontDoor:
    upstream = Upstream()
    directory = Directory(Registry(settings.lease_s), upstream.is_ready)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with upstream:
            expiring = asyncio.create_task(directory.expire_forever())
            yield
            expiring.cancel()

    app = FastAPI(
        title="ModelEngine",
        version=modelengine.__version__,
        lifespan=lifespan,
        routes=nameserver.look_ups(directory),
    )
    doors.install(app)
    app.add_middleware(limits.BodyLimit)
    app.include_router(nameserver.routes(directory))
    app.include_router(native.routes(Relay(directory, upstream, Balance())))

    @app.get("/")
    async def what_is_this() -> Response:
        return doors.answer(f"ModelEngine {modelengine.__version__}: a name server and front door to chat models")

    @app.get("/health")
    @app.get("/ready")
    async def ready() -> Response:
        return doors.answer("ready")

    return FrontDoor(app, directory)
