"""The routes of embeddings and rerank in others' forms: an engine mounts them over its model, a front door over all."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import uuid4

from fastapi import APIRouter, Request, Response

from modelengine import errors
from modelengine.vectors import EmbedRequest
from modelengine_api import bodies, doors, ignored, streaming
from modelengine_api.backend import Backend
from modelengine_api.ollama import keep_alive, names, wording
from modelengine_api.retrieval import calls, embeddings, operations, reranking

# How many texts had to be cut: what was lost is said, also where a client has no field for it.
TRUNCATED_HEADER = "x-modelengine-truncated"

_embeddings = bodies.Reader(calls.EmbeddingsCall)
_embed = bodies.Reader(calls.EmbedCall)
_old_embeddings = bodies.Reader(calls.OldEmbeddingsCall)
_rerank = bodies.Reader(calls.RerankCall)


def routes(backend: Backend) -> APIRouter:
    router = APIRouter()

    @router.post("/v1/embeddings", openapi_extra=operations.EMBEDDINGS)
    async def openai_embeddings(request: Request) -> Response:
        call = await _embeddings.read(request)
        answer = await _embedded(request, backend, embeddings.from_openai(call), call.input, "input")
        return _json(embeddings.to_openai(call, answer), call, answer)

    # The second is where version 2 of Cohere's client asks; it reads the same answer.
    @router.post("/v1/rerank", openapi_extra=operations.RERANK)
    @router.post("/v2/rerank", openapi_extra=operations.RERANK)
    async def rerank(request: Request) -> Response:
        call = await _rerank.read(request)
        answer = await streaming.until_disconnected(request, backend.rerank(reranking.request(call)))
        return _json(reranking.answer(call, answer, f"rerank-{uuid4().hex}"), call, answer)

    @router.post("/api/embed", openapi_extra=operations.OLLAMA_EMBED)
    async def ollama_embed(request: Request) -> Response:
        began_ns = time.perf_counter_ns()
        call = await _embed.read(request)
        answer = await _of_ollama(
            request, backend, call, lambda model: embeddings.from_ollama(call, model), call.input, "input"
        )
        return _json(embeddings.to_ollama(call, answer, time.perf_counter_ns() - began_ns), call, answer)

    @router.post("/api/embeddings", openapi_extra=operations.OLLAMA_EMBEDDINGS)
    async def ollama_embeddings(request: Request) -> Response:
        call = await _old_embeddings.read(request)
        answer = await _of_ollama(
            request, backend, call, lambda model: embeddings.from_old_ollama(call, model), call.prompt, "prompt"
        )
        return _json(embeddings.to_old_ollama(answer), call, answer)

    return router


async def _of_ollama(
    request: Request,
    backend: Backend,
    call: calls.EmbedCall | calls.OldEmbeddingsCall,
    translate: Callable[[str], EmbedRequest | None],
    given: str | Sequence[str],
    field: str,
) -> Mapping[str, Any] | None:
    """The native answer; None where no text was given, and the model is there."""
    if call.keep_alive is not None:
        keep_alive.seconds(call.keep_alive)
    served = names.served(call.model, lambda: (card.name for card in backend.models()))
    native = translate(served)
    try:
        if native is not None:
            return await _embedded(request, backend, native, given, field)
        await backend.info(served)
        return None
    except errors.NotFound as failure:
        raise wording.worded(failure, call.model, of_prompt=False) from failure


async def _embedded(
    request: Request, backend: Backend, native: EmbedRequest, given: str | Sequence[str], field: str
) -> Mapping[str, Any]:
    try:
        return await streaming.until_disconnected(request, backend.embed(native))
    except errors.InvalidRequest as failure:
        raise embeddings.reworded(failure, given, field) from failure


def _json(body: Mapping[str, Any], call: calls.Call, answer: Mapping[str, Any] | None) -> Response:
    headers = ignored.headers(calls.ignored(call))
    if answer is not None and answer.get("truncated"):
        headers[TRUNCATED_HEADER] = str(answer["truncated"])
    return doors.plain(body, headers)
