"""The engine's HTTP application: the native routes over one engine, and the questions of probes and of the operator."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict
from typing import Any

import orjson
from fastapi import FastAPI, Response

import modelengine
from modelengine import errors, wire
from modelengine.chats import ChatRequest
from modelengine.exposition import Exposition
from modelengine.protocol import CHAT, EMBED, RERANK, EngineLoad, methods
from modelengine.vectors import EmbedRequest, RerankRequest
from modelengine_api import calls, doors, load_reports, observing, surface
from modelengine_api.backend import ModelCard
from modelengine_api.hosts import Hosts
from modelengine_api.metrics import Requests
from modelengine_api.pages import Policy
from modelengine_runtime import answers, metrics, progress
from modelengine_runtime.answers import Renderer
from modelengine_runtime.encoding import EncodingEngine
from modelengine_runtime.engine import Accepted, Engine
from modelengine_runtime.lifecycle import AnyEngine, Lifecycle
from modelengine_runtime.progress import LOADING_PATH
from modelengine_runtime.settings import VLLM


class EngineBackend:
    """Answers (as a `Backend`) from this process's engine."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle

    def models(self) -> Sequence[ModelCard]:
        is_ready = self._lifecycle.is_ready
        why_not = None if is_ready else f"{self._lifecycle.name!r} is not ready: {self._lifecycle.stage}"
        return [ModelCard(self._lifecycle.name, self._lifecycle.protocol, int(is_ready), why_not)]

    async def stream(self, request: ChatRequest) -> AsyncIterator[bytes]:
        renderer, accepted = await self._accept(request)
        async with aclosing(accepted.events) as events:
            async for event in events:
                messages = renderer.messages(event)
                if renderer.is_done:
                    # Before it is sent: who has the last line may ask for no more.
                    calls.answered(messages[-1])
                    accepted.finish()
                for message in messages:
                    yield answers.line(message)
                if renderer.is_done:
                    return

    async def whole(self, request: ChatRequest) -> Mapping[str, Any]:
        renderer, accepted = await self._accept(request)
        messages: list[Mapping[str, Any]] = []
        async with aclosing(accepted.events) as events:
            async for event in events:
                messages += renderer.messages(event)
                if renderer.is_done:
                    accepted.finish()
                    break
        whole = answers.whole(messages)
        calls.answered(whole)
        return whole

    async def embed(self, request: EmbedRequest) -> Mapping[str, Any]:
        return await self._encoding_engine(request.model, EMBED).embed(request)

    async def rerank(self, request: RerankRequest) -> Mapping[str, Any]:
        return await self._encoding_engine(request.model, RERANK).rerank(request)

    async def info(self, model: str | None) -> Mapping[str, Any]:
        engine = self._engine(model)
        facts, counters = engine.model, engine.loop.counters
        return {
            "name": self._lifecycle.name,
            "protocol": self._lifecycle.protocol,
            "architecture": facts.architecture,
            "parameters": facts.parameters,
            "context_length": engine.context_length,
            "dtype": facts.dtype,
            "device": facts.device,
            "max_batch_size": engine.limits.max_running,
            **engine.details,
            "version": modelengine.__version__,
            "pid": os.getpid(),
            "uptime_s": round(time.monotonic() - self._lifecycle.started_at, 3),
            "load": {**asdict(engine.loop.load), **asdict(counters)},
        }

    async def support_methods(self, model: str | None) -> Sequence[str]:
        self._check_name(model)
        return methods(self._lifecycle.protocol)

    async def _accept(self, request: ChatRequest) -> tuple[Renderer, Accepted]:
        engine = self._engine(request.model)
        if not isinstance(engine, Engine):
            raise self._speaks_another(CHAT)
        accepted = await engine.accept(request)
        renderer = Renderer(
            self._lifecycle.name,
            accepted.prompt_length,
            accepted.seed,
            accepted.usage,
            accepted.parser,
            engine.model.spell,
            has_one_call=request.parallel_tool_calls is False,
        )
        return renderer, accepted

    def _encoding_engine(self, model: str, protocol: str) -> EncodingEngine:
        engine = self._engine(model)
        if isinstance(engine, EncodingEngine) and protocol == self._lifecycle.protocol:
            return engine
        raise self._speaks_another(protocol)

    def _speaks_another(self, asked: str) -> errors.InvalidRequest:
        return errors.speaks_another(self._lifecycle.name, [self._lifecycle.protocol], asked)

    def _engine(self, model: str | None) -> AnyEngine:
        self._check_name(model)
        return self._lifecycle.engine

    def _check_name(self, model: str | None) -> None:
        if model not in (None, self._lifecycle.name):
            raise errors.unknown_name("model", model, [self._lifecycle.name])
        calls.asked_for(self._lifecycle.name)


def create_app(
    lifecycle: Lifecycle, pages: Policy = Policy(), exposition: Exposition | None = None, compat: str = VLLM
) -> FastAPI:
    """`pages`: which browsers' pages may ask. `exposition` shows the metrics, those of `compat` too; without one nobody
    can read them."""
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
        title="ModelEngine engine",
        version=modelengine.__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        telemetry=surface.NO_TELEMETRY,
    )
    surface.mount(app, EngineBackend(lifecycle))
    app.add_middleware(Hosts, policy=pages)
    app.include_router(load_reports.route(lambda: _load(lifecycle), lambda: not lifecycle.is_ready))

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


def _load(lifecycle: Lifecycle) -> EngineLoad:
    engine = lifecycle.engine
    if isinstance(engine, EncodingEngine):
        return EngineLoad(engine.loop.running, engine.loop.waiting)
    load = engine.loop.load
    return EngineLoad(load.running, load.waiting, load.blocks_used / load.blocks_total)


def _probe(lifecycle: Lifecycle, is_well: bool) -> Response:
    body = wire.ok({"name": lifecycle.name, "stage": lifecycle.stage})
    return Response(orjson.dumps(body), status_code=200 if is_well else 503, media_type=doors.JSON)
