"""What a request leaves behind when it has ended: nothing for the collector, nothing of a large body."""

from __future__ import annotations

import gc
import json
import platform
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from callers import OpenFrontDoor, StartEngine, ask, until
from fakes import FakeEngine
from modelengine.chats import ChatRequest
from modelengine_api.connections import Joined
from modelengine_api.streaming import Client
from modelengine_gateway.connection import Connection

# Not a request's `Call`: the timers of asyncio, which servers have here but not as processes, hold it for a while.
OF_A_REQUEST = (RequestResponseCycle, Client, ChatRequest, Joined, Connection)
GOOD = {"model": "demo", "messages": [{"role": "user", "content": "hi"}]}
REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", GOOD),
    ("/v1/chat/completions", {**GOOD, "stream": True}),
    ("/engine/inference", {**GOOD, "stream": True}),
    ("/v1/chat/completions", {**GOOD, "temperature": "warm"}),
    ("/v1/chat/completions", {**GOOD, "model": "nobody"}),
    ("/nameserver/get_services", {"protocol": "chat", "name": "demo"}),
    ("/nameserver/wait", {"name": "nobody", "timeout_s": 0.01}),
    ("/nameserver/register", {"protocol": "chat", "name": "nobody", "host": "127.0.0.1", "port": 1}),
    ("/nowhere", {}),
]


@pytest.fixture
def uncollected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def living() -> Counter[str]:
    return Counter(type(one).__name__ for one in gc.get_objects() if issubclass(type(one), OF_A_REQUEST))


@pytest.mark.usefixtures("uncollected")
def test_what_a_request_leaves_goes_without_the_collector(
    open_front_door: OpenFrontDoor, start_engine: StartEngine
) -> None:
    door = open_front_door()
    # What it remembers of each request would be found, too.
    fake = FakeEngine(pause_s=0.01, requests=Forgotten())
    start_engine(fake, door)
    for path, body in REQUESTS:
        ask(door, path, body)
    leave_midway(door)
    before = living()
    for _ in range(5):
        for path, body in REQUESTS:
            ask(door, path, body)
        leave_midway(door)
    assert until(lambda: living() <= before, within_s=5), living() - before


class Forgotten(list[ChatRequest]):
    def append(self, request: ChatRequest) -> None:
        pass


def leave_midway(door: str) -> None:
    host, port = door.split(":")
    body = json.dumps({**GOOD, "stream": True}).encode()
    with socket.create_connection((host, int(port)), timeout=5) as client:
        client.sendall(b"POST /engine/inference HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        assert client.recv(100)


LARGE_ONES = """
import psutil
from modelengine_gateway import memory
memory.settle()
bytearray(8_000_000)
before = psutil.Process().memory_info().rss
# A small one after each, as whatever lives on when a body is gone.
bodies = [(bytearray(7_000_000), bytearray(200_000)) for _ in range(8)]
smalls = [small for _, small in bodies]
del bodies
print(psutil.Process().memory_info().rss - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only the GNU C library has to be told")
def test_what_large_bodies_took_goes_back_to_the_machine_whatever_small_lives_on() -> None:
    kept = subprocess.run([sys.executable, "-c", LARGE_ONES], check=True, capture_output=True, text=True).stdout
    assert int(kept) < 7_000_000
