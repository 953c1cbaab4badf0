"""The load generator: a process of its own, so that it takes no time from what it measures.

`run` starts one with a Load and gives what it Measured. Each connection is kept alive and sends its next request as
soon as its answer is whole (a closed loop), so the rate is what the server can do with so many clients.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections.abc import Iterator
from typing import cast

import uvloop

from bench import processes, traffic
from bench.processes import LOOPBACK, BenchFailed
from bench.traffic import Answer, Load, Measured

# What a load may take on top of its own seconds, before it is given up.
PATIENCE_S = 900.0


def run(load: Load) -> Measured:
    """Raises BenchFailed where an answer is not the expected one, or a connection breaks."""
    return traffic.decode_measured(processes.run_module("bench.load", traffic.encode(load), load.seconds + PATIENCE_S))


class Generator:
    """What all connections share: the requests in turn, the clock, and the times that were measured."""

    def __init__(self, load: Load) -> None:
        self._requests: Iterator[bytes] = itertools.cycle(traffic.request_bytes(load.path, b) for b in load.bodies)
        self._load = load
        self._expect = load.expect.encode()
        self._left = sys.maxsize if load.requests is None else load.requests
        self._until = 0.0
        self._open = load.connections
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._first: list[float] = []
        self._whole: list[float] = []
        self._tokens = 0

    async def run(self) -> Measured:
        loop = asyncio.get_running_loop()
        connections = [
            (await loop.create_connection(lambda: Connection(self), LOOPBACK, self._load.port))[1]
            for _ in range(self._load.connections)
        ]
        cpu, own_cpu, started = self._cpu(), time.process_time(), time.perf_counter()
        self._until = started + self._load.seconds
        for connection in connections:
            connection.proceed()
        await self._over
        ended = time.perf_counter()
        used = {name: now - cpu[name] for name, now in self._cpu().items()}
        own = time.process_time() - own_cpu
        return traffic.summarize(self._first, self._whole, ended - started, self._tokens, own, used)

    def next_request(self) -> bytes | None:
        """None when the load is over for the connection that asks."""
        if self._left and time.perf_counter() < self._until:
            self._left -= 1
            return next(self._requests)
        self._open -= 1
        if not self._open and not self._over.done():
            self._over.set_result(None)
        return None

    def came(self, answer: Answer, first: float, whole: float) -> None:
        if answer.status != 200 or self._expect not in answer.tail:
            self.broke(f"HTTP {answer.status}: {answer.tail.decode(errors='replace')}")
        self._first.append(first)
        self._whole.append(whole)
        self._tokens += answer.tokens

    def broke(self, what: str) -> None:
        if not self._over.done():
            self._over.set_exception(BenchFailed(what))

    def _cpu(self) -> dict[str, float]:
        return {name: processes.cpu_s(pid) for name, pid in self._load.pids.items()}


class Connection(asyncio.Protocol):
    def __init__(self, generator: Generator) -> None:
        self._generator = generator
        self._answer = Answer()
        self._sent = self._first = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are asyncio's by their methods only.
        self._transport = cast(asyncio.WriteTransport, transport)

    def proceed(self) -> None:
        request = self._generator.next_request()
        if request is None:
            return
        self._answer = Answer()
        self._first = 0.0
        self._sent = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        answer = self._answer
        answer.feed(data)
        if answer.has_body and not self._first:
            self._first = now - self._sent
        if answer.is_whole:
            self._generator.came(answer, self._first, now - self._sent)
            self.proceed()

    def connection_lost(self, failure: Exception | None) -> None:
        self._generator.broke(f"the server closed the connection: {failure}")


async def main() -> None:
    print(traffic.encode(await Generator(traffic.decode_load(sys.stdin.read())).run()))


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
