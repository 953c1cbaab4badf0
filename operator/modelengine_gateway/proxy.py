"""What is asked of models through 9527: finds a replica of the model and passes its answer on.

A `Backend`. Until the first byte of an answer another replica may be tried; from then on the bytes pass
unchanged, and an answer that breaks off ends with an error line.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import orjson

from modelengine import errors, wire
from modelengine.protocol import (
    CHAT,
    EMBED,
    METHOD_OF,
    RERANK,
    ChatRequest,
    EmbedRequest,
    EngineMethod,
    RerankRequest,
    ServerInfo,
    to_json,
)
from modelengine_api.backend import ModelCard
from modelengine_gateway.balance import Balance
from modelengine_gateway.directory import Directory
from modelengine_gateway.upstream import Answer, Upstream

# An engine may have a long queue before the first token, so a chat may be silent for as long as clients wait.
CHAT_SILENCE_S = 600.0
CALL_SILENCE_S = 10.0


class Relay:
    """Answers for every model that the directory lists."""

    def __init__(self, directory: Directory, upstream: Upstream, balance: Balance) -> None:
        self._directory = directory
        self._upstream = upstream
        self._balance = balance

    def models(self) -> Sequence[ModelCard]:
        return [self._card(protocol, name) for protocol, name in self._directory.known()]

    def _card(self, protocol: str, name: str) -> ModelCard:
        replicas = len(self._directory.services(protocol, name))
        return ModelCard(
            name, protocol, replicas, None if replicas else self._directory.missing(protocol, name).message
        )

    async def stream(self, request: ChatRequest) -> AsyncIterator[bytes]:
        async with contextlib.AsyncExitStack() as stack:
            body = _body(request)
            at, answer = await self._open(stack, CHAT, request.model, EngineMethod.INFERENCE, body, CHAT_SILENCE_S)
            last = rest = b""
            try:
                async for data in answer:
                    lines, newline, rest = (rest + data).rpartition(b"\n")
                    if newline:
                        last = lines
                        yield lines + newline
            except errors.StreamBroken as broken:
                failure = broken
            else:
                failure = errors.StreamBroken("the engine's answer stopped before its final part")
            # An engine that dies after its last word leaves a whole answer.
            if not is_final(last):
                self._directory.suspect(at)
                raise failure

    async def whole(self, request: ChatRequest) -> Mapping[str, Any]:
        return await self._whole(CHAT, request)

    async def embed(self, request: EmbedRequest) -> Mapping[str, Any]:
        return await self._whole(EMBED, request)

    async def rerank(self, request: RerankRequest) -> Mapping[str, Any]:
        return await self._whole(RERANK, request)

    async def _whole(self, protocol: str, request: ChatRequest | EmbedRequest | RerankRequest) -> Mapping[str, Any]:
        return dict(await self._call(protocol, request.model, METHOD_OF[protocol], _body(request), CHAT_SILENCE_S))

    async def info(self, model: str | None) -> Mapping[str, Any]:
        return dict(await self._ask(model, EngineMethod.INFO))

    async def support_methods(self, model: str | None) -> Sequence[str]:
        return list((await self._ask(model, EngineMethod.SUPPORT_METHODS))["support_methods"])

    async def _ask(self, model: str | None, method: EngineMethod) -> Any:
        """Asks the model, whatever it speaks; of several under one name the one that can be chatted with."""
        name = _named(model)
        protocol = min(self._directory.protocols(name), key=lambda known: known != CHAT, default=CHAT)
        return await self._call(protocol, name, method, b"{}", CALL_SILENCE_S)

    async def _call(self, protocol: str, model: str, method: EngineMethod, body: bytes, silence_s: float) -> Any:
        async with contextlib.AsyncExitStack() as stack:
            at, answer = await self._open(stack, protocol, model, method, body, silence_s)
            try:
                return wire.unwrap(wire.decode(await answer.read()))
            except errors.StreamBroken:
                self._directory.suspect(at)
                raise

    async def _open(
        self,
        stack: contextlib.AsyncExitStack,
        protocol: str,
        model: str,
        method: EngineMethod,
        body: bytes,
        silence_s: float,
    ) -> tuple[ServerInfo, Answer]:
        """The begun answer of the least busy replica that gives one; `stack` closes it. Raises what the last said."""
        refusals: dict[ServerInfo, errors.ModelEngineError] = {}
        while at := self._balance.pick([s for s in self._directory.services(protocol, model) if s not in refusals]):
            async with contextlib.AsyncExitStack() as attempt:
                attempt.enter_context(self._balance.lease(at))
                try:
                    answer = await attempt.enter_async_context(self._upstream.open(at, method, body, silence_s))
                except errors.ConnectionFailed as dead:
                    refusals[at] = dead
                    self._directory.unreachable(at)
                except (errors.Busy, errors.Unavailable) as refused:
                    refusals[at] = refused
                else:
                    await stack.enter_async_context(attempt.pop_all())
                    return at, answer
        raise self._nobody(protocol, model, list(refusals.values()))

    def _nobody(
        self, protocol: str, model: str, refusals: Sequence[errors.ModelEngineError]
    ) -> errors.ModelEngineError:
        if not refusals:
            others = self._directory.protocols(model)
            if others and protocol not in others:
                return errors.speaks_another(model, others, protocol)
            return self._directory.missing(protocol, model)
        # One that is only full is a better reason to come again than one that is gone.
        for kind in (errors.Busy, errors.Unavailable):
            if refused := next((refusal for refusal in refusals if isinstance(refusal, kind)), None):
                return refused
        return errors.Unavailable(f"none of the {len(refusals)} replica(s) of {model!r} answers", retry_after_s=1)


def is_final(lines: bytes) -> bool:
    """Whether the last of these lines ends an answer: the final part, or an error."""
    try:
        envelope = orjson.loads(lines.rpartition(b"\n")[2])
        return bool(envelope["state"] == "error" or envelope["msg"]["done"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return False


def _body(request: ChatRequest | EmbedRequest | RerankRequest) -> bytes:
    # Written anew, not passed on: only what was checked reaches an engine. By the standard library, whose whole numbers
    # may be as long as those that were read.
    return wire.encode(to_json(request))


def _named(model: str | None) -> str:
    if model is None:
        raise errors.InvalidRequest("model: is required; the front door serves every name")
    return model
