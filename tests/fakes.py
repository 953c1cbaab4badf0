"""Stand-ins for what is too heavy or too well-behaved for a test."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Response
from jinja2 import TemplateError

from modelengine import errors, wire
from modelengine.chats import ChatChunk, ChatRequest, ChatResponse
from modelengine.protocol import CHAT, EMBED, RERANK, EngineLoad, to_json
from modelengine.vectors import EmbedRequest, RerankRequest
from modelengine_api import load_reports, surface
from modelengine_api.backend import ModelCard
from modelengine_runtime.model import LoadedModel
from modelengine_runtime.scheduler import Chunk
from modelengine_runtime.sequence import ChatSequence


def _fields(word: str | Mapping[str, Any]) -> Mapping[str, Any]:
    return {"content": word} if isinstance(word, str) else word


@dataclass
class FakeEngine:
    """An engine without a model: says `words`, counts its requests, and misbehaves on demand.

    A word that is no text is a part's fields: `{"reasoning_content": "hm"}`, `{"tool_calls": [...]}`.
    """

    name: str = "demo"
    words: Sequence[str | Mapping[str, Any]] = ("Hello", " ", "world", "!")
    pause_s: float = 0.0
    # Raised instead of an answer, before its first byte.
    refusal: errors.ModelEngineError | None = None
    # After so many words: "raise" an error, "kill" the process, or "end" the stream without its last part.
    break_after: int | None = None
    break_by: str = "raise"
    is_ready: bool = True
    # So many streams at once; more are refused as full.
    places: int | None = None
    reports_load: bool = True
    # Said in the place of the words: of each native part the fields that differ from an empty one.
    parts: Sequence[Mapping[str, Any]] = ()
    requests: list[ChatRequest] = field(default_factory=list)
    open_streams: int = 0
    aborted: int = 0

    def models(self) -> Sequence[ModelCard]:
        return [ModelCard(self.name, CHAT, int(self.is_ready))]

    async def stream(self, request: ChatRequest) -> AsyncIterator[bytes]:
        self.requests.append(request)
        if self.refusal is not None:
            raise self.refusal
        if self.places is not None and self.open_streams >= self.places:
            raise errors.Busy("full")
        self.open_streams += 1
        finished = False
        try:
            for i, part in enumerate(self._parts()):
                if i == self.break_after:
                    if self.break_by == "raise":
                        raise errors.RequestFailed("the fake broke")
                    if self.break_by == "kill":
                        os.kill(os.getpid(), signal.SIGKILL)
                    finished = True
                    return
                if self.pause_s:
                    await asyncio.sleep(self.pause_s)
                finished = bool(part["done"])
                yield wire.encode_line(wire.ok(part))
        finally:
            self.open_streams -= 1
            self.aborted += not finished

    async def whole(self, request: ChatRequest) -> Mapping[str, Any]:
        self.requests.append(request)
        if self.refusal is not None:
            raise self.refusal
        try:
            await asyncio.sleep(self.pause_s * len(self.words))
        except asyncio.CancelledError:
            self.aborted += 1
            raise
        *parts, last = self._parts()
        said = {key: [part[key] for part in parts if part.get(key)] for key in ("content", "reasoning_content")}
        lists = {key: [item for part in parts for item in part.get(key) or ()] for key in ("tool_calls", "logprobs")}
        answer = ChatResponse(self.name, 3, last["response_length"], last["finish_reason"], "".join(said["content"]))
        thought = {"reasoning_content": "".join(said["reasoning_content"])}
        return {**to_json(answer), **{key: value for key, value in (thought | lists).items() if value}}

    def _parts(self) -> list[dict[str, Any]]:
        """The native parts of an answer, the last one included."""
        reason = "tool_calls" if any("tool_calls" in _fields(word) for word in self.words) else "stop"
        said = self.parts or [*map(_fields, self.words), {"done": True, "finish_reason": reason}]
        return [self._part(i, fields) for i, fields in enumerate(said)]

    def _part(self, index: int, fields: Mapping[str, Any]) -> dict[str, Any]:
        if fields.get("done"):
            return {**to_json(ChatChunk(self.name, 3, index, None, None, True, index=index)), **fields}
        part = ChatChunk(self.name, 3, index + 1, None, "", False, index=index, token_ids=(index,))
        return {**to_json(part), **fields}

    async def embed(self, request: EmbedRequest) -> Mapping[str, Any]:
        raise errors.speaks_another(self.name, [CHAT], EMBED)

    async def rerank(self, request: RerankRequest) -> Mapping[str, Any]:
        raise errors.speaks_another(self.name, [CHAT], RERANK)

    async def info(self, model: str | None) -> Mapping[str, Any]:
        self._check(model)
        return {"name": self.name, "version": "0", "pid": os.getpid()}

    async def support_methods(self, model: str | None) -> Sequence[str]:
        self._check(model)
        return ["inference", "info", "support_methods"]

    def _check(self, model: str | None) -> None:
        if model not in (None, self.name):
            raise errors.unknown_name("model", model, [self.name])

    def _load(self) -> EngineLoad:
        return EngineLoad(self.open_streams, 0)

    def app(self) -> FastAPI:
        app = FastAPI()
        surface.mount(app, self)
        if self.reports_load:
            app.include_router(load_reports.route(self._load, lambda: not self.is_ready))

        @app.get("/ready")
        async def ready() -> Response:
            return Response(status_code=200 if self.is_ready else 503)

        return app


class Informants(FakeEngine):
    """Models that only tell about themselves: `asked` is who was; `broken` does not answer and `silent` never does."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str | None] = []

    async def info(self, model: str | None) -> Mapping[str, Any]:
        self.asked.append(model)
        if model == "broken":
            raise errors.Unavailable("gone")
        if model == "silent":
            await asyncio.sleep(3600)
        return {"name": model}


class ByteTokenizer:
    """A token is a byte; 0 ends a turn."""

    end_of_turn = 0

    def apply_chat_template(self, conversation: Sequence[Mapping[str, Any]], **_: Any) -> list[int]:
        if conversation[0]["role"] == "tool":
            raise TemplateError("a conversation can't begin with a tool")
        return list("".join(message.get("content") or "" for message in conversation).encode())

    def decode(self, token_ids: Sequence[int], **_: Any) -> str:
        return bytes(token for token in token_ids if token).decode(errors="replace")


@dataclass
class FakeRunner:
    """A model that says the alphabet, from the letter after the last token on, and breaks when it is told to.

    A prompt with `!` makes every step that it is part of fail.
    """

    pause_s: float = 0.0
    steps: list[list[int]] = field(default_factory=list)
    caches: set[int] = field(default_factory=set)
    kv_blocks: int | None = None

    def reserve(self, kv_blocks: int) -> None:
        self.kv_blocks = kv_blocks

    def step(self, chunks: Sequence[Chunk]) -> list[Sequence[int]]:
        time.sleep(self.pause_s)
        self.steps.append([chunk.sequence.id for chunk in chunks])
        self.caches.update(chunk.sequence.id for chunk in chunks)
        if any(ord("!") in chunk.sequence.prompt for chunk in chunks):
            raise ValueError("the model broke on this prompt")
        return [[ord("a") + (chunk.start + len(chunk.token_ids)) % 26] if chunk.samples else [] for chunk in chunks]

    def release(self, sequence: ChatSequence) -> None:
        self.caches.discard(sequence.id)


def fake_model(runner: FakeRunner, context_length: int = 1000) -> LoadedModel:
    return LoadedModel(
        runner=runner,
        tokenizer=ByteTokenizer(),
        decode=ByteTokenizer().decode,
        architecture="Fake",
        parameters=0,
        context_length=context_length,
        dtype="float32",
        device="cpu",
        stop_tokens=frozenset({ByteTokenizer.end_of_turn}),
        generation_defaults={},
        kv_bytes_per_token=1,
    )
