"""What is asked of models through 9527: finds a replica of the model and passes its answer on.

A `Backend`. Until the first byte of an answer another replica may be tried; from then on the bytes pass
unchanged, and an answer that breaks off ends with an error line.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from modelengine import errors, wire
from modelengine.chats import ChatRequest
from modelengine.protocol import CHAT, EMBED, METHOD_OF, RERANK, EngineMethod, to_json
from modelengine.vectors import EmbedRequest, RerankRequest
from modelengine_api import calls
from modelengine_api.backend import ModelCard
from modelengine_gateway import affinity
from modelengine_gateway.directory import Directory
from modelengine_gateway.dispatch import Call, Dispatch
from modelengine_gateway.loads import Loads
from modelengine_gateway.upstream import Deadlines

# What an engine answers from what it knows, it answers at once.
ABOUT_ITSELF = Deadlines(first_byte_s=10.0, between_s=10.0, total_s=20.0)


class Relay:
    """Answers for every model that the directory lists."""

    def __init__(self, directory: Directory, dispatch: Dispatch, loads: Loads, deadlines: Deadlines) -> None:
        self._directory = directory
        self._dispatch = dispatch
        self._loads = loads
        self._deadlines = deadlines
        # An engine says nothing of a whole answer before its end.
        self._whole_deadlines = replace(deadlines, first_byte_s=deadlines.total_s)

    def models(self) -> Sequence[ModelCard]:
        return [self._card(protocol, name) for protocol, name in self._directory.known()]

    def _card(self, protocol: str, name: str) -> ModelCard:
        services = self._directory.services(protocol, name)
        why_not = None if services else self._directory.missing(protocol, name).message
        return ModelCard(name, protocol, len(services), why_not, self._loads.together(services))

    async def stream(self, request: ChatRequest) -> AsyncIterator[bytes]:
        with await self._dispatch.open(self._chat_call(request)) as relayed:
            last = rest = b""
            try:
                async for data in relayed.answer:
                    lines, newline, rest = (rest + data).rpartition(b"\n")
                    if len(rest) > wire.MAX_LINE_BYTES:
                        raise errors.StreamBroken(f"the engine's line is over {wire.MAX_LINE_BYTES} bytes")
                    if newline:
                        last = lines
                        yield lines + newline
            except errors.StreamBroken as broken:
                failure = broken
            else:
                failure = errors.StreamBroken("the engine's answer stopped before its final part")
            # An engine that dies after its last word leaves a whole answer.
            if not is_final(last):
                self._dispatch.broke_off(relayed.at)
                raise failure
            envelope = orjson.loads(last.rpartition(b"\n")[2])
            if is_fault(envelope):
                self._dispatch.failed(relayed.at)
            else:
                self._dispatch.succeeded(relayed.at)
            calls.closed(envelope)

    async def whole(self, request: ChatRequest) -> Mapping[str, Any]:
        msg = dict(await self._call(self._chat_call(request)))
        calls.answered(msg)
        return msg

    def _chat_call(self, request: ChatRequest) -> Call:
        return self._call_for(CHAT, request, affinity.key(request))

    def _call_for(
        self, protocol: str, request: ChatRequest | EmbedRequest | RerankRequest, key: bytes | None = None
    ) -> Call:
        streams = isinstance(request, ChatRequest) and request.stream
        deadlines = self._deadlines if streams else self._whole_deadlines
        return Call(protocol, request.model, METHOD_OF[protocol], _body(request), deadlines, key)

    async def embed(self, request: EmbedRequest) -> Mapping[str, Any]:
        return dict(await self._call(self._call_for(EMBED, request)))

    async def rerank(self, request: RerankRequest) -> Mapping[str, Any]:
        return dict(await self._call(self._call_for(RERANK, request)))

    async def info(self, model: str | None) -> Mapping[str, Any]:
        return dict(await self._ask(model, EngineMethod.INFO))

    async def support_methods(self, model: str | None) -> Sequence[str]:
        return list((await self._ask(model, EngineMethod.SUPPORT_METHODS))["support_methods"])

    async def _ask(self, model: str | None, method: EngineMethod) -> Any:
        """Asks the model, whatever it speaks; of several under one name the one that can be chatted with."""
        name = _named(model)
        protocol = min(self._directory.protocols(name), key=lambda known: known != CHAT, default=CHAT)
        return await self._call(Call(protocol, name, method, b"{}", ABOUT_ITSELF))

    async def _call(self, call: Call) -> Any:
        with await self._dispatch.open(call) as relayed:
            try:
                msg = wire.unwrap(wire.decode(await relayed.answer.read()))
            except errors.StreamBroken:
                self._dispatch.broke_off(relayed.at)
                raise
            self._dispatch.succeeded(relayed.at)
            return msg


def is_final(lines: bytes) -> bool:
    """Whether the last of these lines ends an answer: the final part, or an error."""
    try:
        envelope = orjson.loads(lines.rpartition(b"\n")[2])
        return bool(envelope["state"] == "error" or envelope["msg"]["done"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return False


def is_fault(envelope: Mapping[str, Any]) -> bool:
    """Whether a last line is an error that is the engine's own, not the request's."""
    if envelope["state"] != "error":
        return False
    return errors.BY_CODE.get(str(envelope.get("code")), errors.ModelEngineError).status >= 500


def _body(request: ChatRequest | EmbedRequest | RerankRequest) -> bytes:
    # Written anew, not passed on: only what was checked reaches an engine. By the standard library, whose whole numbers
    # may be as long as those that were read.
    return wire.encode(to_json(request))


def _named(model: str | None) -> str:
    if model is None:
        raise errors.InvalidRequest("model: is required; the front door serves every name")
    return model
