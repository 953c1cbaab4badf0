"""Every API that there is over one backend: an engine mounts them over its model, a front door over all it knows."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig

from modelengine_api import doors, limits, native, openapi, shortcuts
from modelengine_api.backend import Backend
from modelengine_api.ollama import routes as ollama
from modelengine_api.openai import routes as openai
from modelengine_api.retrieval import routes as retrieval

# For `FastAPI(telemetry=...)`: our metrics and logs are our own, and it would look for others at each request.
NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}


def mount(app: FastAPI, backend: Backend) -> None:
    """Adds the routes, the largest body that they read, and how each of them words its errors."""
    doors.install(app)
    openapi.install(app)
    # A path that is nearly one is none: a redirect would name whatever host the request named.
    app.router.redirect_slashes = False
    app.add_middleware(limits.BodyLimit)
    routers = [native.routes(backend), ollama.routes(backend), openai.routes(backend), retrieval.routes(backend)]
    app.router.routes.insert(0, shortcuts.Shortcuts(routers))
    for router in routers:
        app.include_router(router)
