"""The chat that goes through 9527: finds a replica of the model and passes its answer on.

A `Backend`. Until the first byte of an answer another replica may be tried; from then on the bytes pass
unchanged, and an answer that breaks off ends with an error line.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import orjson

from modelengine import errors, wire
from modelengine.protocol import CHAT, ChatRequest, EngineMethod, ServerInfo, to_json
from modelengine_api import calls
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
            at, answer = await self._open(stack, request.model, EngineMethod.INFERENCE, _body(request), CHAT_SILENCE_S)
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
            calls.closed(orjson.loads(last.rpartition(b"\n")[2]))

    async def whole(self, request: ChatRequest) -> Mapping[str, Any]:
        msg = dict(await self._call(request.model, EngineMethod.INFERENCE, _body(request), CHAT_SILENCE_S))
        calls.answered(msg)
        return msg

    async def info(self, model: str | None) -> Mapping[str, Any]:
        return dict(await self._call(_named(model), EngineMethod.INFO, b"{}", CALL_SILENCE_S))

    async def support_methods(self, model: str | None) -> Sequence[str]:
        msg = await self._call(_named(model), EngineMethod.SUPPORT_METHODS, b"{}", CALL_SILENCE_S)
        return list(msg["support_methods"])

    async def _call(self, model: str, method: EngineMethod, body: bytes, silence_s: float) -> Any:
        async with contextlib.AsyncExitStack() as stack:
            at, answer = await self._open(stack, model, method, body, silence_s)
            try:
                return wire.unwrap(wire.decode(await answer.read()))
            except errors.StreamBroken:
                self._directory.suspect(at)
                raise

    async def _open(
        self, stack: contextlib.AsyncExitStack, model: str, method: EngineMethod, body: bytes, silence_s: float
    ) -> tuple[ServerInfo, Answer]:
        """The begun answer of the least busy replica that gives one; `stack` closes it. Raises what the last said."""
        refusals: dict[ServerInfo, errors.ModelEngineError] = {}
        calls.asked_for(model)
        while at := self._balance.pick([s for s in self._directory.services(CHAT, model) if s not in refusals]):
            async with contextlib.AsyncExitStack() as attempt:
                attempt.enter_context(self._balance.lease(at))
                try:
                    answer = await attempt.enter_async_context(self._upstream.open(at, method, body, silence_s))
                except errors.ConnectionFailed as dead:
                    refusals[at] = dead
                    calls.retried(dead.code)
                    self._directory.unreachable(at)
                except (errors.Busy, errors.Unavailable) as refused:
                    refusals[at] = refused
                    calls.retried(refused.code)
                else:
                    await stack.enter_async_context(attempt.pop_all())
                    return at, answer
        raise self._nobody(model, list(refusals.values()))

    def _nobody(self, model: str, refusals: Sequence[errors.ModelEngineError]) -> errors.ModelEngineError:
        if not refusals:
            return self._directory.missing(CHAT, model)
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


def _body(request: ChatRequest) -> bytes:
    # Written anew, not passed on: only what was checked reaches an engine. By the standard library, whose whole numbers
    # may be as long as those that were read.
    return wire.encode(to_json(request))


def _named(model: str | None) -> str:
    if model is None:
        raise errors.InvalidRequest("model: is required; the front door serves every name")
    return model
