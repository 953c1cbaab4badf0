"""The native routes, `POST /engine/<method>` and `GET /models`.

An engine mounts them over its loop, a front door over its relay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from fastapi import APIRouter, Request, Response

from modelengine.chats import ChatChunk, ChatRequest, ChatResponse
from modelengine.protocol import STRICT, EngineMethod, Name, to_json
from modelengine.vectors import EmbedRequest, EmbedResponse, RerankRequest, RerankResponse
from modelengine_api import bodies, chat_checks, doors, openapi, streaming
from modelengine_api.backend import Backend, ModelCard


@dataclass(frozen=True, slots=True)
class ModelQuery:
    """The body of `info` and `support_methods`; may be left out."""

    model: Name | None = None

    __pydantic_config__: ClassVar[Mapping[str, Any]] = STRICT


@dataclass(frozen=True, slots=True)
class Methods:
    """What `support_methods` answers, of an engine and of the name server."""

    support_methods: list[str]


_chat = bodies.Reader(ChatRequest)
_embed = bodies.Reader(EmbedRequest)
_rerank = bodies.Reader(RerankRequest)
_query = bodies.Reader(ModelQuery)


async def read_chat(request: Request) -> ChatRequest:
    """The body as a ChatRequest. Raises InvalidRequest naming the field, and what is allowed there."""
    chat = await _chat.read(request)
    chat_checks.check(chat)
    return chat


def routes(backend: Backend) -> APIRouter:
    """The native routes over this backend."""
    router = APIRouter()
    inferred = openapi.operation(body=ChatRequest, answer=ChatResponse, part=ChatChunk, refusals=openapi.OF_A_MODEL)
    embedded = openapi.operation(body=EmbedRequest, answer=EmbedResponse, refusals=openapi.OF_A_MODEL)
    reranked = openapi.operation(body=RerankRequest, answer=RerankResponse, refusals=openapi.OF_A_MODEL)
    told = openapi.operation(body=ModelQuery, answer=dict[str, Any], refusals=openapi.OF_A_MODEL, body_required=False)
    methods_told = openapi.operation(body=ModelQuery, answer=Methods, refusals=openapi.OF_A_MODEL, body_required=False)

    @router.post(f"/engine/{EngineMethod.INFERENCE}", openapi_extra=inferred)
    async def inference(request: Request) -> Response:
        chat = await read_chat(request)
        if chat.stream:
            return streaming.LineStream(backend.stream(chat))
        return doors.answer(await streaming.until_disconnected(request, backend.whole(chat)))

    @router.post(f"/engine/{EngineMethod.EMBED}", openapi_extra=embedded)
    async def embed(request: Request) -> Response:
        wanted = await _embed.read(request)
        return doors.answer(await streaming.until_disconnected(request, backend.embed(wanted)))

    @router.post(f"/engine/{EngineMethod.RERANK}", openapi_extra=reranked)
    async def rerank(request: Request) -> Response:
        wanted = await _rerank.read(request)
        return doors.answer(await streaming.until_disconnected(request, backend.rerank(wanted)))

    @router.post(f"/engine/{EngineMethod.INFO}", openapi_extra=told)
    async def info(request: Request) -> Response:
        return doors.answer(await backend.info((await _query.read(request)).model))

    @router.post(f"/engine/{EngineMethod.SUPPORT_METHODS}", openapi_extra=methods_told)
    async def support_methods(request: Request) -> Response:
        methods = await backend.support_methods((await _query.read(request)).model)
        return doors.answer({"support_methods": list(methods)})

    @router.get("/models", openapi_extra=openapi.operation(answer=dict[str, list[ModelCard]]))
    async def models() -> Response:
        """Every name that can be asked for, with why nobody answers to it where that is so."""
        return doors.answer({"models": [to_json(card) for card in backend.models()]})

    return router
