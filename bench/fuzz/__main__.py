"""`make fuzz`, or `PYTHONPATH=tests python -m bench.fuzz [--requests N] [--streams N] [--seed N]`.

A front door in a process of its own, and an engine without a model behind it that counts its open answers. Nothing may
be answered 5xx but what is documented, nothing may crash or stay open, and memory must be flat, see `memory.py`.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import itertools
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

import processes
from bench.fuzz import memory, requests, sending, streams
from bench.fuzz.sending import Stream
from callers import ask
from fakes import FakeEngine
from modelengine.protocol import ServerInfo
from modelengine_api.limits import MAX_BODY_BYTES
from modelengine_runtime.registration import Registration
from servers import running

STREAM_PATIENCE_S = sending.PATIENCE_S / 5
# Of memory, evenly over all that is sent.
SAMPLES = 250
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
    of_requests = (Stream([made.rendered()]) for made in requests.endless(document, random.Random(seed)))
    of_bytes = (Stream(pieces, STREAM_PATIENCE_S) for pieces in streams.endless(random.Random(seed)))
    count = requests_count + streams_count
    mixed = itertools.islice(_mixed(of_requests, of_bytes, streams_count / count), count)
    samples: list[int] = []
    sent = itertools.chain(_largest(document, seed, requests_count // 2), _watched(mixed, count, door, samples))
    heard = asyncio.run(sending.all_of(door.port, sent))
    wrong = [*heard.wrong, *_left_open(door)]
    print(f"answers by status: {heard}")
    print(f"memory from the start to the end, MB: {memory.curve(samples)}")
    print(f"memory at the end, by what it was once warm: {memory.growth(samples):.3f}")
    if complaint := memory.complaint(samples):
        wrong.append(complaint)
    return wrong


def _mixed(of_requests: Iterator[Stream], of_bytes: Iterator[Stream], share: float) -> Iterator[Stream]:
    """Of both, evenly, this share of bytes."""
    due = 0.0
    while True:
        due += share
        yield next(of_bytes if due >= 1 else of_requests)
        due %= 1


def _largest(document: requests.Schema, seed: int, count: int) -> list[Stream]:
    """The largest of so many others that are read at all: what they make an allocator keep is no leak later on."""
    others = itertools.islice(requests.endless(document, random.Random(-1 - seed)), count)
    read = (made for made in others if len(made.body) <= MAX_BODY_BYTES)
    return [Stream([made.rendered()]) for made in heapq.nlargest(count // 100, read, key=lambda made: len(made.body))]


def _watched(source: Iterable[Stream], count: int, door: Door, samples: list[int]) -> Iterator[Stream]:
    every = max(1, count // SAMPLES)
    for number, stream in enumerate(source):
        if number % every == 0:
            samples.append(door.memory())
        yield stream


def _left_open(door: Door) -> Iterator[str]:
    """What is wrong with it once everybody has left, and has had the time to."""
    deadline = time.monotonic() + IDLE_WITHIN_S
    while (door.engine.open_streams or door.connections() > 1) and time.monotonic() < deadline:
        time.sleep(0.1)
    if door.engine.open_streams:
        yield f"{door.engine.open_streams} answer(s) are still open at the engine"
    # The engine's own, which renews its entry.
    if (left := door.connections()) > 1:
        yield f"{left} connection(s) are still open at the front door"
    body: Any = {"model": "demo", "messages": [{"role": "user", "content": "hi"}], "stream": False}
    if (reply := ask(door.address, "/engine/inference", body)).status != 200:
        yield f"a good request is answered {reply.status}: {reply.body[:200]!r}"
    said = door.server.output
    if (at := said.find("Traceback")) >= 0:
        yield said[max(0, at - 300) : at + 3000]


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
