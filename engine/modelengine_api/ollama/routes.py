"""The Ollama API, `/api/...`: an engine mounts it over its model, a front door over every model it knows."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from typing import Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

import modelengine
from modelengine import errors
from modelengine.chats import ChatRequest
from modelengine_api import bodies, chat_checks, doors, failures, ignored, streaming
from modelengine_api.backend import Backend
from modelengine_api.ollama import calls, keep_alive, listings, names, operations, refusals, requests, wording
from modelengine_api.ollama.answers import Answer
from modelengine_api.ollama.facts import Facts

# The release whose API this is: clients ask for it to know what a server can do, not who made it.
API_VERSION = "0.12.11"
EVERY_METHOD = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]

_chat = bodies.Reader(calls.ChatCall)
_generate = bodies.Reader(calls.GenerateCall)
_show = bodies.Reader(calls.ShowCall)


def routes(backend: Backend) -> APIRouter:
    """All routes but those of embeddings, and the refusals of what changes which models there are."""
    router = APIRouter()
    facts = Facts(backend)

    @router.post("/api/chat", openapi_extra=operations.CHAT)
    async def chat(request: Request) -> Response:
        call = await _chat.read(request)
        answer = Answer("chat", call.model)
        native = requests.chat(call, _served(backend, call.model))
        return await _answer(backend, request, call, native, answer, asks=bool(call.messages))

    @router.post("/api/generate", openapi_extra=operations.GENERATE)
    async def generate(request: Request) -> Response:
        call = await _generate.read(request)
        answer = Answer("generate", call.model)
        native = requests.generate(call, _served(backend, call.model))
        return await _answer(backend, request, call, native, answer, asks=bool(call.prompt))

    @router.post("/api/show", openapi_extra=operations.SHOW)
    async def show(request: Request) -> Response:
        call = await _show.read(request)
        asked = call.model or call.name
        if not asked:
            raise errors.InvalidRequest("model: is required")
        with _worded(asked):
            info = await backend.info(_served(backend, asked))
        return doors.plain(listings.show(listings.Told(info, time.time())), ignored.headers(calls.unknown(call)))

    async def tags() -> Response:
        cards = backend.models()
        return doors.plain(listings.tags(cards, await facts.of(cards)))

    async def ps() -> Response:
        cards = backend.models()
        return doors.plain(listings.ps(cards, await facts.of(cards)))

    async def version() -> Response:
        return doors.plain({"version": API_VERSION, "modelengine": modelengine.__version__})

    for path, listing, described in (
        ("/api/tags", tags, operations.TAGS),
        ("/api/ps", ps, operations.PS),
        ("/api/version", version, operations.VERSION),
    ):
        router.add_api_route(path, listing, methods=["GET"], openapi_extra=described)
        router.add_api_route(path, listing, methods=["HEAD"], include_in_schema=False)
    router.add_api_route("/", is_running, methods=["GET", "HEAD"], include_in_schema=False)
    for path, instead in refusals.INSTEAD.items():
        router.add_api_route(path, _refusing(instead), methods=EVERY_METHOD, include_in_schema=False)
    return router


async def is_running() -> Response:
    """What Ollama's clients ask for to see whether anybody is there."""
    return PlainTextResponse("Ollama is running")


async def _answer(
    backend: Backend, request: Request, call: calls.Call, native: ChatRequest, answer: Answer, *, asks: bool
) -> Response:
    stays_s = None if call.keep_alive is None else keep_alive.seconds(call.keep_alive)
    headers = ignored.headers(requests.ignored(call))
    if not asks:
        reason: Literal["load", "unload"] = "unload" if stays_s == 0 else "load"
        await _is_there(backend, call.model, native.model, reason)
        return doors.plain(answer.without_words(reason), headers)
    with _worded(call):
        chat_checks.check(native)
    if native.stream:
        lines = _translated(backend, native, answer, call)
        return streaming.LineStream(lines, last_word=_last_word, headers=headers)
    with _worded(call):
        whole = await streaming.until_disconnected(request, backend.whole(native))
    return doors.plain(answer.whole(whole), headers)


async def _translated(backend: Backend, native: ChatRequest, answer: Answer, call: calls.Call) -> AsyncGenerator[bytes]:
    """The lines of the answer. Raises what ended it early, after all that came before."""
    with _worded(call):
        async with streaming.closing(backend.stream(native)) as stream:
            async for data in stream:
                lines: list[bytes] = []
                try:
                    for line in data.splitlines():
                        lines.append(answer.line(line))
                except errors.ModelEngineError:
                    if any(lines):
                        yield b"".join(lines)
                    raise
                if any(lines):
                    yield b"".join(lines)
    if not answer.is_done:
        raise errors.StreamBroken("the engine's answer stopped before its final part")


async def _is_there(backend: Backend, asked: str, model: str, reason: Literal["load", "unload"]) -> None:
    """Raises what whoever asks this model something would hear; one that is away already is as good as unloaded."""
    with _worded(asked):
        try:
            await backend.info(model)
        except errors.Unavailable:
            if reason == "load":
                raise


def _served(backend: Backend, asked: str) -> str:
    return names.served(asked, lambda: (card.name for card in backend.models()))


@contextlib.contextmanager
def _worded(call: calls.Call | str) -> Iterator[None]:
    """Errors in the client's words: of a call, or of who only names a model."""
    asked = call if isinstance(call, str) else call.model
    try:
        yield
    except (errors.NotFound, errors.InvalidRequest) as failure:
        raise wording.worded(failure, asked, of_prompt=isinstance(call, calls.GenerateCall)) from failure


def _last_word(failure: errors.ModelEngineError) -> bytes:
    return doors.encoded(failures.ollama(failure)) + b"\n"


def _refusing(instead: str) -> Callable[[Request], Awaitable[Response]]:
    async def refuse(request: Request) -> Response:
        return doors.refusal(errors.Forbidden(instead), request.scope["path"])

    return refuse
