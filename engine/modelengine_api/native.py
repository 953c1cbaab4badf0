"""The native routes, `POST /engine/<method>`: an engine mounts them over its loop, a front door over its relay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from fastapi import APIRouter, Request, Response

from modelengine import errors
from modelengine.protocol import STRICT, ChatRequest, EngineMethod, Name
from modelengine_api import bodies, doors, streaming
from modelengine_api.backend import Backend


@dataclass(frozen=True, slots=True)
class ModelQuery:
    """The body of `info` and `support_methods`; may be left out."""

    model: Name | None = None

    __pydantic_config__: ClassVar[Mapping[str, Any]] = STRICT


_chat = bodies.Reader(ChatRequest)
_query = bodies.Reader(ModelQuery)


async def read_chat(request: Request) -> ChatRequest:
    """The body as a ChatRequest. Raises InvalidRequest naming the field, and what is allowed there."""
    chat = await _chat.read(request)
    limits = (chat.options.max_new_tokens, chat.options.max_tokens)
    if None not in limits and limits[0] != limits[1]:
        raise errors.InvalidRequest(
            f"options.max_tokens: is another name for max_new_tokens, but {limits[1]} and {limits[0]} were given"
        )
    return chat


def routes(backend: Backend) -> APIRouter:
    """The three native routes over this backend."""
    router = APIRouter()

    @router.post(f"/engine/{EngineMethod.INFERENCE}")
    async def inference(request: Request) -> Response:
        chat = await read_chat(request)
        if chat.stream:
            return streaming.LineStream(backend.stream(chat))
        return doors.answer(await streaming.until_disconnected(request, _whole(backend, chat)))

    @router.post(f"/engine/{EngineMethod.INFO}")
    async def info(request: Request) -> Response:
        return doors.answer(await backend.info((await _query.read(request)).model))

    @router.post(f"/engine/{EngineMethod.SUPPORT_METHODS}")
    async def support_methods(request: Request) -> Response:
        methods = await backend.support_methods((await _query.read(request)).model)
        return doors.answer({"support_methods": list(methods)})

    return router


async def _whole(backend: Backend, chat: ChatRequest) -> Mapping[str, Any]:
    return await backend.whole(chat)
