"""OpenAI's routes, `/v1/...`: reads a request, has its translation made into native ones, and sends what comes back."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Protocol

from fastapi import APIRouter, Request, Response

from modelengine import errors
from modelengine.chats import ChatRequest
from modelengine_api import bodies, calls, chat_checks, doors, failures, ignored, streaming
from modelengine_api.backend import Backend
from modelengine_api.openai import (
    chat_answer,
    choices,
    completion,
    completion_answer,
    models,
    operations,
    parts,
    wording,
)
from modelengine_api.openai.chat import ChatCompletionRequest
from modelengine_api.openai.chat_answer import ChatStream
from modelengine_api.openai.completion import CompletionRequest
from modelengine_api.openai.completion_answer import CompletionStream
from modelengine_api.openai.response import ResponseRequest
from modelengine_api.openai.response_answer import ResponseStream
from modelengine_api.openai.response_input import STATELESS
from modelengine_api.openai.wording import Names

EVENT_STREAM = "text/event-stream"

_chat = bodies.Reader(ChatCompletionRequest)
_completion = bodies.Reader(CompletionRequest)
_response = bodies.Reader(ResponseRequest)


class Asked(Protocol):
    """A request, as what is asked of engines."""

    def natives(self) -> Sequence[ChatRequest]: ...

    def names(self) -> Names: ...


class Events(Protocol):
    """What makes the events of a stream from native parts."""

    def feed(self, choice: int, said: Sequence[parts.Part]) -> bytes: ...

    @property
    def is_complete(self) -> bool: ...

    def end(self) -> bytes: ...


def routes(backend: Backend) -> APIRouter:
    """All of them over this backend."""
    router = APIRouter(prefix="/v1")
    started = int(time.time())

    @router.get("/models", openapi_extra=operations.LIST_MODELS)
    async def list_models() -> Response:
        return doors.plain(models.listing(backend.models(), started))

    @router.get("/models/{name:path}", openapi_extra=operations.RETRIEVE_MODEL)
    async def retrieve_model(name: str) -> Response:
        return doors.plain(models.one(backend.models(), name, started))

    @router.post("/chat/completions", openapi_extra=operations.CHAT)
    async def chat(request: Request) -> Response:
        asked = await _chat.read(request)
        calls.wants_choices(asked.choices)
        natives, headers, created = checked(asked), ignored.headers(asked.ignored()), int(time.time())
        if asked.stream:
            events: Events = ChatStream(asked.model, created, len(natives), asked.wants_usage)
            return event_stream(_events(backend, natives, events, asked.names()), headers)
        with _worded(asked.names()):
            answers = await streaming.until_disconnected(request, choices.whole(backend, natives))
        return doors.plain(chat_answer.whole(answers, asked.model, created, bool(asked.logprobs)), headers)

    @router.post("/completions", openapi_extra=operations.COMPLETION)
    async def complete(request: Request) -> Response:
        asked = await _completion.read(request)
        calls.wants_choices(asked.choices)
        natives, created = checked(asked), int(time.time())
        headers = {**completion.PROMPT_HEADERS, **ignored.headers(asked.ignored())}
        if asked.stream:
            events: Events = CompletionStream(asked.model, created, asked.echoes(), asked.choices, asked.wants_usage)
            return event_stream(_events(backend, natives, events, asked.names()), headers)
        with _worded(asked.names()):
            answers = await streaming.until_disconnected(request, choices.whole(backend, natives))
        return doors.plain(
            completion_answer.whole(answers, asked.model, created, asked.echoes(), asked.choices), headers
        )

    @router.post("/responses", openapi_extra=operations.RESPONSE)
    async def respond(request: Request) -> Response:
        asked = await _response.read(request)
        natives, headers = checked(asked), ignored.headers(asked.ignored())
        events = ResponseStream(asked.frame(), int(time.time()), asked.wants_logprobs)
        said = _events(backend, natives, events, asked.names())
        if asked.stream:
            return event_stream(said, headers, events.failed)
        await streaming.until_disconnected(request, _exhaust(said))
        return doors.plain(events.response, headers)

    @router.api_route("/responses/{response_id}", methods=["GET", "DELETE"], include_in_schema=False)
    @router.post("/responses/{response_id}/cancel", include_in_schema=False)
    async def no_responses(response_id: str) -> Response:
        raise failures.NoRoute(f"no response {response_id[:100]!r}: {STATELESS}")

    return router


def checked(asked: Asked) -> Sequence[ChatRequest]:
    """The native requests, which are alike in what could be wrong. Raises InvalidRequest before any is sent."""
    natives = asked.natives()
    with _worded(asked.names()):
        chat_checks.check(natives[0])
    return natives


@contextlib.contextmanager
def _worded(names: Names) -> Iterator[None]:
    """What is refused inside is told in the names of the request."""
    try:
        yield
    except errors.InvalidRequest as failure:
        raise wording.worded(failure, names) from failure


def last_event(failure: errors.ModelEngineError) -> bytes:
    """How a stream ends that fails: neither a finish_reason nor [DONE] follows."""
    return b"data: " + doors.encoded(failures.openai(failure)) + b"\n\n"


def event_stream(
    lines: AsyncIterator[bytes], headers: Mapping[str, str], last_word: streaming.LastWord = last_event
) -> Response:
    return streaming.LineStream(lines, media_type=EVENT_STREAM, last_word=last_word, headers=headers)


async def _events(
    backend: Backend, natives: Sequence[ChatRequest], events: Events, names: Names
) -> AsyncIterator[bytes]:
    with _worded(names):
        async with streaming.closing(choices.stream(backend, natives)) as answers:
            async for choice, lines in answers:
                batch = parts.of(lines)
                if event := events.feed(choice, batch.parts):
                    yield event
                if batch.failure is not None:
                    raise batch.failure
    if not events.is_complete:
        raise errors.StreamBroken("the engine's answer stopped before its final part")
    if event := events.end():
        yield event


async def _exhaust(pieces: AsyncIterator[bytes]) -> None:
    async with streaming.closing(pieces) as all_of_them:
        async for _ in all_of_them:
            pass
