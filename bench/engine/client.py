"""The client of all engines: waves of chats sent at once, followed to their ends.

A process of its own, as `bench.load`. It reads no answer but its last bytes, where each engine
says how many tokens it had for a prompt and how many it gave.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import uvloop

from bench import processes, stats, traffic
from bench.engine import accounts
from bench.processes import LOOPBACK, BenchFailed
from bench.traffic import Answer

PROMPT_TOKENS = re.compile(rb'"prompt_tokens": ?(\d+)')
TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Work:
    """`waves` of bodies. Every answer must be to `prompt_tokens` and have `new_tokens`; `pid` is the server."""

    port: int
    path: str
    pid: int
    waves: Sequence[Sequence[str]]
    prompt_tokens: int
    new_tokens: int


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds of all waves, from their first request to their last answer's end, and of that, from the first text of
    any answer on. `others` is the share of the machine that neither the server nor this client used."""

    seconds: float
    after_first_s: float
    tokens: int
    first: Sequence[float]
    others: float


@dataclass(slots=True)
class Wave:
    started: float = 0.0
    first: list[float] = field(default_factory=list)
    ended: float = 0.0


def run(work: Work) -> Measured:
    """Raises BenchFailed where an answer is not the expected one."""
    answer: dict[str, Any] = json.loads(
        processes.run_module("bench.engine.client", json.dumps(asdict(work)), TIMEOUT_S)
    )
    return Measured(**answer)


def check(answer: Answer, prompt_tokens: int, new_tokens: int) -> None:
    """Raises BenchFailed unless the answer says that it has so many tokens, and had so many to read."""
    found = PROMPT_TOKENS.findall(answer.tail)
    had = int(found[-1]) if found else 0
    if (answer.status, had, answer.tokens) != (200, prompt_tokens, new_tokens):
        raise BenchFailed(
            f"HTTP {answer.status}, {answer.tokens} tokens for {had}, not {new_tokens} for {prompt_tokens}: "
            f"{answer.tail.decode(errors='replace')}"
        )


def summarize(waves: Sequence[Wave], tokens: int, others: float) -> Measured:
    return Measured(
        seconds=sum(wave.ended - wave.started for wave in waves),
        after_first_s=sum(wave.ended - min(wave.first) for wave in waves),
        tokens=tokens,
        first=[first - wave.started for wave in waves for first in wave.first],
        others=others,
    )


class Chat(asyncio.Protocol):
    """One connection, one request. `over` is done with the answer, or failed."""

    def __init__(self) -> None:
        self.answer = Answer()
        self.first = 0.0
        self.over: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are asyncio's by their methods only.
        self._transport = cast(asyncio.WriteTransport, transport)

    def send(self, request: bytes) -> None:
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.answer.feed(data)
        if self.answer.has_body and not self.first:
            self.first = time.perf_counter()
        if self.answer.is_whole and not self.over.done():
            self.over.set_result(self.answer)
            self._transport.close()

    def connection_lost(self, failure: Exception | None) -> None:
        if not self.over.done():
            self.over.set_exception(BenchFailed(f"the server closed the connection: {failure}"))


async def wave_of(work: Work, bodies: Sequence[str]) -> Wave:
    loop = asyncio.get_running_loop()
    requests = [traffic.request_bytes(work.path, body) for body in bodies]
    chats = [(await loop.create_connection(Chat, LOOPBACK, work.port))[1] for _ in requests]
    wave = Wave(started=time.perf_counter())
    for chat, request in zip(chats, requests, strict=True):
        chat.send(request)
    answers = await asyncio.gather(*(chat.over for chat in chats))
    wave.ended = time.perf_counter()
    for answer in answers:
        check(answer, work.prompt_tokens, work.new_tokens)
    wave.first = [chat.first for chat in chats]
    return wave


async def main() -> None:
    work = Work(**json.loads(sys.stdin.read()))
    before, started = busy(work.pid), time.perf_counter()
    waves = [await wave_of(work, bodies) for bodies in work.waves]
    after, seconds = busy(work.pid), time.perf_counter() - started
    others = accounts.others_share({who: after[who] - before[who] for who in after}, seconds)
    tokens = work.new_tokens * sum(len(bodies) for bodies in work.waves)
    print(json.dumps(asdict(summarize(waves, tokens, others))))


def busy(pid: int) -> Mapping[str, float]:
    return {
        accounts.MACHINE: accounts.busy_s(Path("/proc/stat").read_text()),
        "server": processes.cpu_s(pid),
        "client": time.process_time(),
    }


def sample(measured: Measured) -> dict[str, float]:
    """The quantities of one round of a point. The tokens between the first texts and the last end leave out the first
    of each answer, which is the prompt's price."""
    rest = measured.tokens - len(measured.first)
    return {
        "tok/s": stats.per(measured.tokens, measured.seconds),
        "decode tok/s": stats.per(rest, measured.after_first_s),
        "first ms": stats.percentile(measured.first, 50) * 1e3,
        "last first ms": max(measured.first) * 1e3,
        "others %": measured.others * 100,
    }


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
