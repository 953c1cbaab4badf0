"""Finds a request its replica: picks one, tries another until an answer begins, and waits where none is free.

The decisions are elsewhere (`balance`, `loads`, `outliers`, `budget`, `queues`); here they meet the network and the
clock.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from modelengine import errors
from modelengine.protocol import EngineMethod, ServerInfo
from modelengine_api import calls
from modelengine_gateway import balance
from modelengine_gateway.budget import RetryBudget
from modelengine_gateway.directory import Directory, background
from modelengine_gateway.loads import Loads
from modelengine_gateway.outliers import Outliers
from modelengine_gateway.queues import Line
from modelengine_gateway.upstream import Answer, Deadlines, Unreachable, Upstream

log = logging.getLogger(__name__)

# What an engine answers however full it is.
NEEDS_NO_PLACE = frozenset({EngineMethod.INFO, EngineMethod.SUPPORT_METHODS})
# How often who waits is called, beside whenever an answer ends.
CALL_EVERY_S = 0.25
COME_AGAIN_S = 1.0
# One request's, before it is held to be what breaks engines: it must not go on to all of them.
MOST_BREAKS = 2


@dataclass(frozen=True, slots=True)
class Call:
    """What is asked of any replica of a model. `key` is the conversation's, where there is one."""

    protocol: str
    model: str
    method: EngineMethod
    body: bytes
    deadlines: Deadlines
    key: bytes | None = None

    @property
    def name(self) -> tuple[str, str]:
        return self.protocol, self.model


@dataclass(frozen=True, slots=True)
class Relayed:
    """An answer that has begun. Leaving it gives its place back, and aborts the request where it has not ended."""

    at: ServerInfo
    answer: Answer
    held: ExitStack

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.held.close()


@dataclass(frozen=True, slots=True)
class Waiting:
    """How many requests for one name may wait for a replica, and for how many seconds."""

    length: int
    seconds: float


@dataclass(slots=True)
class _Asked:
    """One request on its way, and how many engines took it and closed the connection without a byte."""

    call: Call
    breaks: int = 0


class Dispatch:
    def __init__(
        self, directory: Directory, upstream: Upstream, loads: Loads, outliers: Outliers, waiting: Waiting
    ) -> None:
        self._directory = directory
        self._upstream = upstream
        self._loads = loads
        self._outliers = outliers
        self._budget = RetryBudget()
        self._waiting = waiting
        self._lines: dict[tuple[str, str], Line] = {}
        self._tending: set[asyncio.Task[None]] = set()

    async def open(self, call: Call) -> Relayed:
        """The begun answer of a replica. Raises what the last one said, or that there is none."""
        calls.asked_for(call.model)
        asked = _Asked(call)
        refusal: errors.ModelEngineError = errors.Busy(f"too many wait for {call.model!r}", retry_after_s=COME_AGAIN_S)
        # Who comes later stands behind those who wait, but for those who need no replica's place.
        if call.method in NEEDS_NO_PLACE or not self._lines.get(call.name):
            try:
                return await self._attempt(asked)
            except (errors.Busy, errors.Unavailable) as refused:
                if not self._waiting.seconds or call.method in NEEDS_NO_PLACE:
                    raise
                refusal = _later(refused)
        return await self._in_line(asked, refusal)

    async def _in_line(self, asked: _Asked, refusal: errors.ModelEngineError) -> Relayed:
        until = asyncio.get_running_loop().time() + self._waiting.seconds
        line = self._line(asked.call.name)
        with line.place(refusal) as place:
            while True:
                try:
                    async with asyncio.timeout_at(until):
                        await place.called.wait()
                except TimeoutError:
                    raise refusal from None
                try:
                    return await self._attempt(asked)
                except (errors.Busy, errors.Unavailable) as refused:
                    refusal = _later(refused)
                except errors.NotFound:
                    # It was there when this request came, so it may come again.
                    pass
                line.back(place)

    def _line(self, name: tuple[str, str]) -> Line:
        if name not in self._lines:
            self._lines[name] = Line(self._waiting.length)
            tending = background(self._tend(name))
            self._tending.add(tending)
            tending.add_done_callback(self._tending.discard)
        return self._lines[name]

    async def _tend(self, name: tuple[str, str]) -> None:
        line = self._lines[name]
        while not line.is_left:
            await asyncio.sleep(CALL_EVERY_S)
            line.tick()
        del self._lines[name]

    def _call_next(self, name: tuple[str, str]) -> None:
        if line := self._lines.get(name):
            line.call()

    async def _attempt(self, asked: _Asked) -> Relayed:
        call = asked.call
        refusals: dict[ServerInfo, errors.ModelEngineError] = {}
        while (at := self._pick(call, refusals)) is not None:
            with ExitStack() as held, ExitStack() as trying:
                # Nobody was bothered where nobody answered, so that is no retry.
                if any(not isinstance(refusal, Unreachable) for refusal in refusals.values()):
                    if self._budget.is_spent:
                        break
                    trying.enter_context(self._budget.retry())
                held.enter_context(self._budget.request())
                held.enter_context(self._loads.lease(at))
                try:
                    answer = await self._upstream.open(at, f"/engine/{call.method}", call.body, call.deadlines)
                except Unreachable as dead:
                    refusals[at] = dead
                    calls.retried(dead.code)
                    self._directory.unreachable(at)
                except errors.ConnectionFailed as broke:
                    refusals[at] = broke
                    calls.retried(broke.code)
                    self.failed(at)
                    self._directory.unreachable(at)
                    asked.breaks += 1
                    if asked.breaks == MOST_BREAKS:
                        raise errors.StreamBroken(
                            f"{MOST_BREAKS} replicas of {call.model!r} broke off on this request before they answered; "
                            "no other is asked"
                        ) from broke
                except errors.Busy as full:
                    refusals[at] = full
                    calls.retried(full.code)
                except errors.Unavailable as refused:
                    refusals[at] = refused
                    calls.retried(refused.code)
                    self.failed(at)
                except errors.ModelEngineError as failure:
                    if failure.status >= 500:
                        self.failed(at)
                    raise
                else:
                    held.callback(self._call_next, call.name)
                    held.enter_context(answer)
                    return Relayed(at, answer, held.pop_all())
        raise self._nobody(call, refusals)

    def _pick(self, call: Call, refusals: Mapping[ServerInfo, errors.ModelEngineError]) -> ServerInfo | None:
        services = self._outliers.admitted(self._directory.services(call.protocol, call.model), _now())
        return balance.pick({info: self._loads.of(info) for info in services if info not in refusals}, call.key)

    def _nobody(self, call: Call, refusals: Mapping[ServerInfo, errors.ModelEngineError]) -> errors.ModelEngineError:
        if not refusals:
            others = self._directory.protocols(call.model)
            if others and call.protocol not in others:
                return errors.speaks_another(call.model, others, call.protocol)
            return self._directory.missing(call.protocol, call.model)
        # One that is only full is a better reason to come again than one that is gone.
        for kind in (errors.Busy, errors.Unavailable):
            if refused := next((refusal for refusal in refusals.values() if isinstance(refusal, kind)), None):
                return refused
        return errors.Unavailable(
            f"none of the {len(refusals)} replica(s) of {call.model!r} answers", retry_after_s=COME_AGAIN_S
        )

    def succeeded(self, at: ServerInfo) -> None:
        """An answer of the replica came to its end."""
        self._outliers.succeeded(at)

    def failed(self, at: ServerInfo) -> None:
        """A request failed at the replica by no fault of its own."""
        # Who is off the list begins anew if it comes again, and nobody would tell that it may be forgotten.
        if self._directory.lists(at) and self._outliers.failed(at, _now()):
            log.warning("%s at %s fails request after request; others are asked for a while", at.name, at.url)

    def broke_off(self, at: ServerInfo) -> None:
        """An answer of the replica broke off."""
        self._directory.suspect(at)
        self.failed(at)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _later(refused: errors.ModelEngineError) -> errors.ModelEngineError:
    if refused.retry_after_s is not None:
        return refused
    return type(refused)(refused.message, details=refused.details, retry_after_s=COME_AGAIN_S)
