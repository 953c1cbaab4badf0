"""The fake engine without HTTP: the same Engine, the same requests, taken from its event stream in its own process.

`run` starts `python -m bench.direct` with a Load (its port and path do not matter) and gives what it Measured. The
CPU time is that of the one process, which is engine and client, as the process of the HTTP case is engine and server.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import time
from collections.abc import Iterator

import uvloop

from bench import fake_engine, processes, traffic
from bench.traffic import Load, Measured
from modelengine.chats import ChatRequest
from modelengine_api import bodies
from modelengine_runtime.engine import Engine
from modelengine_runtime.sequence import End

PROCESS = "engine"
WARM_UP_REQUESTS = 20
PATIENCE_S = 60.0


def run(load: Load) -> Measured:
    """Raises BenchFailed where the process fails."""
    answer = processes.run_module("bench.direct", traffic.encode(load), load.seconds + PATIENCE_S)
    return traffic.decode_measured(answer)


class Driver:
    """`connections` tasks, each of which submits its next request when its answer is whole."""

    def __init__(self, engine: Engine, load: Load) -> None:
        reader = bodies.Reader(ChatRequest)
        self._engine = engine
        self._load = load
        self._requests: Iterator[ChatRequest] = itertools.cycle([reader.parse(body.encode()) for body in load.bodies])
        self._until = 0.0
        self._first: list[float] = []
        self._whole: list[float] = []
        self._tokens = 0

    async def run(self) -> Measured:
        for _ in range(WARM_UP_REQUESTS):
            await self._answer(next(self._requests))
        self._first, self._whole, self._tokens = [], [], 0
        cpu, started = processes.cpu_s(os.getpid()), time.perf_counter()
        self._until = started + self._load.seconds
        await asyncio.gather(*(self._client() for _ in range(self._load.connections)))
        seconds = time.perf_counter() - started
        used = {PROCESS: processes.cpu_s(os.getpid()) - cpu}
        return traffic.summarize(self._first, self._whole, seconds, self._tokens, used[PROCESS], used)

    async def _client(self) -> None:
        while time.perf_counter() < self._until:
            await self._answer(next(self._requests))

    async def _answer(self, request: ChatRequest) -> None:
        sent = time.perf_counter()
        accepted = await self._engine.accept(request)
        first = 0.0
        async for event in accepted.events:
            first = first or time.perf_counter() - sent
            if isinstance(event, End):
                self._tokens += event.length
        self._first.append(first)
        self._whole.append(time.perf_counter() - sent)


async def main() -> None:
    engine = fake_engine.engine()
    try:
        print(traffic.encode(await Driver(engine, traffic.decode_load(sys.stdin.read())).run()))
    finally:
        engine.stop()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
