"""`make fuzz`, or `PYTHONPATH=tests python -m bench.fuzz [--requests N] [--streams N] [--seed N]`.

A front door in a process of its own, and an engine without a model behind it that counts its open answers. Nothing may
be answered 5xx but what is documented, nothing may crash or stay open, and memory must be flat once it is warm.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

import processes
from bench.fuzz import requests, sending, streams
from callers import ask
from fakes import FakeEngine
from modelengine.protocol import ServerInfo
from modelengine_runtime.registration import Registration
from servers import running

WARM_UP = 0.2
GROWTH = 1.05
# Of a front door that is 60 MB large; what an allocator keeps is no leak.
SLACK_BYTES = 3_000_000
IDLE_WITHIN_S = 10.0
SHOWN = 10


@dataclass(frozen=True, slots=True)
class Door:
    """A front door in a process of its own, and the engine behind it."""

    port: int
    process: psutil.Process
    engine: FakeEngine
    server: processes.Server

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def connections(self) -> int:
        found = self.process.net_connections(kind="tcp")
        return sum(one.status == psutil.CONN_ESTABLISHED and one.laddr[1] == self.port for one in found)

    def memory(self) -> int:
        return int(self.process.memory_info().rss)


@contextmanager
def opened(folder: Path) -> Iterator[Door]:
    """The front door with the engine `demo` listed, and kept so."""
    engine, port = FakeEngine(words=["x"] * 20), processes.free_port()
    registrations: list[Registration] = []

    def begin(engine_port: int) -> None:
        info = ServerInfo(engine.name, "127.0.0.1", engine_port)
        registrations.append(Registration(f"127.0.0.1:{port}", info))
        registrations[0].start()

    async def leave() -> None:
        await registrations[0].stop()

    with processes.front_door(folder, port, lease_s=10) as server:
        process = psutil.Process(server.process.pid)
        with running(engine.app(), on_listening=begin, on_stop=leave):
            wait = {"protocol": "chat", "name": "demo", "timeout_s": 10}
            assert ask(f"127.0.0.1:{port}", "/nameserver/wait", wait).status == 200
            yield Door(port, process, engine, server)


def fuzzed(door: Door, requests_count: int, streams_count: int, seed: int) -> list[str]:
    """Sends so many; says what is wrong, and prints what was heard."""
    document = json.loads(ask(door.address, "/openapi.json", method="GET").body)
    made = requests.endless(document, random.Random(seed))
    of_requests = ([request.rendered()] for request in made)
    of_bytes = streams.endless(random.Random(seed))
    wrong: list[str] = []

    def send(source: Iterator[list[bytes]], count: int, patience_s: float) -> str:
        heard = asyncio.run(sending.all_of(door.port, itertools.islice(source, count), patience_s))
        wrong.extend(heard.wrong)
        return str(heard)

    def send_share(share: float) -> None:
        print("requests:", send(of_requests, int(requests_count * share), sending.PATIENCE_S))
        print("streams: ", send(of_bytes, int(streams_count * share), sending.PATIENCE_S / 5))

    send_share(WARM_UP)
    warm = _idle(door, wrong)
    send_share(1 - WARM_UP)
    after = _idle(door, wrong)
    print(f"memory: {warm / 1e6:.1f} MB when warm, {after / 1e6:.1f} MB at the end")
    if after > warm * GROWTH + SLACK_BYTES:
        wrong.append(f"memory grew from {warm} to {after} bytes")
    return wrong


def _idle(door: Door, wrong: list[str]) -> int:
    """The front door's memory, once nothing is open any more; what still is, is wrong."""
    deadline = time.monotonic() + IDLE_WITHIN_S
    while (door.engine.open_streams or door.connections() > 1) and time.monotonic() < deadline:
        time.sleep(0.1)
    if door.engine.open_streams:
        wrong.append(f"{door.engine.open_streams} answer(s) are still open at the engine")
    # The engine's own, which renews its entry.
    if (left := door.connections()) > 1:
        wrong.append(f"{left} connection(s) are still open at the front door")
    body: Any = {"model": "demo", "messages": [{"role": "user", "content": "hi"}], "stream": False}
    if (reply := ask(door.address, "/engine/inference", body)).status != 200:
        wrong.append(f"a good request is answered {reply.status}: {reply.body[:200]!r}")
    if "Traceback" in door.server.output:
        wrong.append(door.server.output[-3000:])
    return door.memory()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.fuzz", description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--streams", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, opened(Path(folder)) as door:
        wrong = fuzzed(door, given.requests, given.streams, given.seed)
    for line in wrong[:SHOWN]:
        print("WRONG:", line)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
