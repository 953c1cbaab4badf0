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
from modelengine.protocol import CHAT, ChatChunk, ChatRequest, ChatResponse, to_json
from modelengine_api import surface
from modelengine_api.backend import ModelCard
from modelengine_runtime.model import LoadedModel
from modelengine_runtime.scheduler import Chunk
from modelengine_runtime.sequence import ChatSequence


@dataclass
class FakeEngine:
    """An engine without a model: says `words`, counts its requests, and misbehaves on demand.

    A word that is a mapping has the fields of its part: what is thought, or a call of a tool.
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
    requests: list[ChatRequest] = field(default_factory=list)
    open_streams: int = 0
    aborted: int = 0

    def models(self) -> Sequence[ModelCard]:
        return [ModelCard(self.name, CHAT, int(self.is_ready))]

    async def stream(self, request: ChatRequest) -> AsyncIterator[bytes]:
        self.requests.append(request)
        if self.refusal is not None:
            raise self.refusal
        self.open_streams += 1
        finished = False
        try:
            for i, word in enumerate(self.words):
                if i == self.break_after:
                    if self.break_by == "raise":
                        raise errors.RequestFailed("the fake broke")
                    if self.break_by == "kill":
                        os.kill(os.getpid(), signal.SIGKILL)
                    finished = True
                    return
                if self.pause_s:
                    await asyncio.sleep(self.pause_s)
                said = {"content": word} if isinstance(word, str) else {"content": "", **word}
                part = ChatChunk(self.name, 3, i + 1, None, done=False, index=i, token_ids=(i,), **said)
                yield wire.encode_line(wire.ok(to_json(part)))
            last = ChatChunk(self.name, 3, len(self.words), "stop", None, True, index=len(self.words))
            finished = True
            yield wire.encode_line(wire.ok(to_json(last)))
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
        text = "".join(word for word in self.words if isinstance(word, str))
        return to_json(ChatResponse(self.name, 3, len(self.words), "stop", text))

    async def info(self, model: str | None) -> Mapping[str, Any]:
        self._check(model)
        return {"name": self.name, "version": "0", "pid": os.getpid()}

    async def support_methods(self, model: str | None) -> Sequence[str]:
        self._check(model)
        return ["inference", "info", "support_methods"]

    def _check(self, model: str | None) -> None:
        if model not in (None, self.name):
            raise errors.unknown_name("model", model, [self.name])

    def app(self) -> FastAPI:
        app = FastAPI()
        surface.mount(app, self)

        @app.get("/ready")
        async def ready() -> Response:
            return Response(status_code=200 if self.is_ready else 503)

        return app


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
