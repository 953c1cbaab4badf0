"""The engine's HTTP application: the native routes over one engine, and the questions of probes and of the operator."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict
from typing import Any

import orjson
from fastapi import FastAPI, Response

import modelengine
from modelengine import errors, wire
from modelengine.exposition import Exposition
from modelengine.protocol import CHAT, ChatRequest, EngineMethod
from modelengine_api import calls, doors, observing, surface
from modelengine_api.backend import ModelCard
from modelengine_api.metrics import Requests
from modelengine_runtime import metrics, progress
from modelengine_runtime.answers import Renderer
from modelengine_runtime.engine import Engine
from modelengine_runtime.lifecycle import Lifecycle
from modelengine_runtime.progress import LOADING_PATH
from modelengine_runtime.sequence import End, Event
from modelengine_runtime.settings import VLLM


class EngineBackend:
    """Answers (as a `Backend`) from this process's engine."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle

    def models(self) -> Sequence[ModelCard]:
        is_ready = self._lifecycle.is_ready
        why_not = None if is_ready else f"{self._lifecycle.name!r} is not ready: {self._lifecycle.stage}"
        return [ModelCard(self._lifecycle.name, CHAT, int(is_ready), why_not)]

    async def stream(self, request: ChatRequest) -> AsyncIterator[bytes]:
        renderer, answer = await self._accept(request)
        last: Event | None = None
        async with aclosing(answer) as events:
            async for last in events:
                yield renderer.line(last)
        if isinstance(last, End):
            calls.answered({"prompt_length": renderer.prompt_length, "response_length": last.length})

    async def whole(self, request: ChatRequest) -> Mapping[str, Any]:
        renderer, answer = await self._accept(request)
        async with aclosing(answer) as events:
            whole = renderer.whole([event async for event in events])
        calls.answered(whole)
        return whole

    async def info(self, model: str | None) -> Mapping[str, Any]:
        engine = self._engine(model)
        facts, counters = engine.model, engine.loop.counters
        return {
            "name": self._lifecycle.name,
            "protocol": CHAT,
            "architecture": facts.architecture,
            "parameters": facts.parameters,
            "context_length": facts.context_length,
            "dtype": facts.dtype,
            "device": facts.device,
            "max_batch_size": engine.limits.max_running,
            "version": modelengine.__version__,
            "pid": os.getpid(),
            "uptime_s": round(time.monotonic() - self._lifecycle.started_at, 3),
            "load": {**asdict(engine.loop.load), **asdict(counters)},
        }

    async def support_methods(self, model: str | None) -> Sequence[str]:
        self._check_name(model)
        return sorted(EngineMethod)

    async def _accept(self, request: ChatRequest) -> tuple[Renderer, AsyncGenerator[Event]]:
        accepted = await self._engine(request.model).accept(request)
        return Renderer(self._lifecycle.name, accepted.prompt_length, accepted.seed), accepted.events

    def _engine(self, model: str | None) -> Engine:
        self._check_name(model)
        return self._lifecycle.engine

    def _check_name(self, model: str | None) -> None:
        if model not in (None, self._lifecycle.name):
            raise errors.unknown_name("model", model, [self._lifecycle.name])
        calls.asked_for(self._lifecycle.name)


def create_app(lifecycle: Lifecycle, exposition: Exposition | None = None, compat: str = VLLM) -> FastAPI:
    """`exposition` shows the metrics, those of `compat` too; without one nobody can read them."""
    exposition = exposition or Exposition(metrics.PART)
    requests = Requests(exposition.registry)
    exposition.registry.register(metrics.EngineMetrics(lifecycle))
    if compat == VLLM:
        exposition.registry.register(metrics.VllmMetrics(lifecycle, requests))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with exposition.served():
            yield

    app = FastAPI(
        title="ModelEngine engine", version=modelengine.__version__, docs_url=None, redoc_url=None, lifespan=lifespan
    )
    surface.mount(app, EngineBackend(lifecycle))

    @app.get("/health")
    async def health() -> Response:
        """200 while a restart would not help."""
        return _probe(lifecycle, lifecycle.is_healthy)

    @app.get("/ready")
    async def ready() -> Response:
        """200 while requests are answered; before and after, the stage says what is going on."""
        return _probe(lifecycle, lifecycle.is_ready)

    @app.get(LOADING_PATH)
    async def loading() -> Response:
        """How far the start is: always 200, for it is an answer and no verdict."""
        return doors.answer(progress.report(lifecycle.stage))

    # Last, and so around all of it.
    app.add_middleware(observing.Observed, tally=requests)
    return app


def _probe(lifecycle: Lifecycle, is_well: bool) -> Response:
    body = wire.ok({"name": lifecycle.name, "stage": lifecycle.stage})
    return Response(orjson.dumps(body), status_code=200 if is_well else 503, media_type=doors.JSON)
