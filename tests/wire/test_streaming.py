"""Streams of lines over a real server: how they begin, break, end, and what happens when the client leaves."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack

import pytest
from fastapi import FastAPI, Request, Response

from callers import StartEngine, ask, until
from fakes import FakeEngine
from modelengine import errors
from modelengine_api import doors, streaming
from servers import running

GOOD = {"model": "demo", "messages": [{"role": "user", "content": "hi"}]}
INFERENCE = "/engine/inference"

Lines = Callable[[], AsyncIterator[bytes]]


@contextlib.contextmanager
def serving_lines(make: Lines, grace_s: float = 0.5, stall_s: float = 60) -> Iterator[str]:
    app = FastAPI()
    doors.install(app)

    @app.post("/")
    async def lines() -> Response:
        response = streaming.LineStream(make())
        response.stall_s = stall_s
        return response

    with running(app, grace_s=grace_s) as port:
        yield f"127.0.0.1:{port}"


@contextlib.contextmanager
def raw_post(address: str, path: str, body: object) -> Iterator[socket.socket]:
    host, port = address.split(":")
    raw = json.dumps(body).encode()
    with socket.create_connection((host, int(port)), timeout=5) as sock:
        sock.sendall(b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (path.encode(), len(raw), raw))
        yield sock


def test_a_stream_is_chunked_ndjson_that_no_proxy_may_hold_back(start_engine: StartEngine) -> None:
    reply = ask(f"127.0.0.1:{start_engine(FakeEngine()).port}", INFERENCE, GOOD)
    assert reply.headers["content-type"] == "application/x-ndjson"
    assert reply.headers["transfer-encoding"] == "chunked"
    assert (reply.headers["cache-control"], reply.headers["x-accel-buffering"]) == ("no-store", "no")
    lines = [json.loads(line)["msg"] for line in reply.body.splitlines()]
    assert "".join(line["content"] or "" for line in lines) == "Hello world!"
    assert [line["done"] for line in lines] == [False, False, False, False, True]


def test_each_line_is_a_chunk_of_its_own_and_leaves_when_it_is_made(start_engine: StartEngine) -> None:
    address = f"127.0.0.1:{start_engine(FakeEngine(pause_s=0.2)).port}"
    with raw_post(address, INFERENCE, GOOD) as sock:
        started = time.monotonic()
        received: list[bytes] = []
        while sum(data.count(b'"state"') for data in received) < 3:
            received.append(sock.recv(65536))
        assert 0.5 < time.monotonic() - started < 0.79
    assert max(data.count(b'"state"') for data in received) == 1


def test_an_error_before_the_first_line_is_an_http_error(start_engine: StartEngine) -> None:
    fake = FakeEngine(refusal=errors.Busy("full"))
    reply = ask(f"127.0.0.1:{start_engine(fake).port}", INFERENCE, GOOD)
    assert (reply.status, reply.envelope["code"]) == (429, "busy")


def test_an_error_in_the_middle_becomes_the_last_line(start_engine: StartEngine) -> None:
    fake = FakeEngine(break_after=2)
    reply = ask(f"127.0.0.1:{start_engine(fake).port}", INFERENCE, GOOD)
    lines = [json.loads(line) for line in reply.body.splitlines()]
    assert reply.status == 200
    assert [line["state"] for line in lines] == ["ok", "ok", "error"]
    assert (lines[-1]["code"], lines[-1]["msg"]) == ("request_failed", "the fake broke")


async def fails_unexpectedly() -> AsyncIterator[bytes]:
    yield b'{"state":"ok","msg":1}\n'
    raise ValueError("a secret")


def test_a_fault_of_ours_in_the_middle_is_a_last_line_without_its_secret(caplog: pytest.LogCaptureFixture) -> None:
    with serving_lines(fails_unexpectedly) as address:
        reply = ask(address, "/")
    assert json.loads(reply.body.splitlines()[-1])["code"] == "request_failed"
    assert b"secret" not in reply.body
    assert "a secret" in caplog.text


async def fails_at_once() -> AsyncIterator[bytes]:
    if GOOD:
        raise ValueError("a secret")
    yield b""


async def says_nothing() -> AsyncIterator[bytes]:
    if not GOOD:
        yield b""


@pytest.mark.parametrize(("make", "status"), [(fails_at_once, 500), (says_nothing, 502)])
def test_a_stream_without_a_first_line_is_never_a_success(make: Lines, status: int) -> None:
    with serving_lines(make) as address:
        assert ask(address, "/").status == status


def test_a_client_that_leaves_closes_the_iterator_within_a_second(start_engine: StartEngine) -> None:
    fake = FakeEngine(words=["x"] * 1000, pause_s=0.05)
    with raw_post(f"127.0.0.1:{start_engine(fake).port}", INFERENCE, GOOD) as sock:
        assert sock.recv(10)
        assert fake.open_streams == 1
    assert until(lambda: fake.open_streams == 0)
    assert fake.aborted == 1


def test_a_client_that_leaves_before_the_first_line_closes_the_iterator_as_well(start_engine: StartEngine) -> None:
    fake = FakeEngine(pause_s=30)
    with raw_post(f"127.0.0.1:{start_engine(fake).port}", INFERENCE, GOOD):
        assert until(lambda: fake.open_streams == 1)
    assert until(lambda: fake.aborted == 1)


def test_a_client_that_leaves_cancels_a_whole_answer(start_engine: StartEngine) -> None:
    fake = FakeEngine(pause_s=30)
    with raw_post(f"127.0.0.1:{start_engine(fake).port}", INFERENCE, {**GOOD, "stream": False}):
        assert until(lambda: len(fake.requests) == 1)
    assert until(lambda: fake.aborted == 1)


def test_a_client_that_stops_reading_loses_its_stream(start_engine: StartEngine) -> None:
    closed = []

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 100_000 + b"\n"
        finally:
            closed.append(True)

    with serving_lines(endless, stall_s=0.4) as address, raw_post(address, "/", {}):
        assert until(lambda: bool(closed), 5)


def test_what_is_open_when_the_grace_is_over_ends_with_a_line_that_says_why() -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b'{"state":"ok","msg":1}\n'
            await asyncio.sleep(0.05)

    with ExitStack() as stack:
        server = serving_lines(endless, grace_s=0.3)
        sock = stack.enter_context(raw_post(server.__enter__(), "/", {}))
        received = sock.recv(65536)
        server.__exit__(None, None, None)
        while data := sock.recv(65536):
            received += data
    last = received.split(b"\r\n")[-4]
    assert json.loads(last) == {"state": "error", "msg": "the server is stopping", "code": "unavailable"}
    assert received.endswith(b"0\r\n\r\n")


def test_a_whole_answer_that_the_stop_cuts_off_is_a_503() -> None:
    app = FastAPI()
    doors.install(app)

    @app.post("/")
    async def slow(request: Request) -> Response:
        return doors.answer(await streaming.until_disconnected(request, asyncio.sleep(30)))

    with ExitStack() as stack:
        server = running(app, grace_s=0.2)
        sock = stack.enter_context(raw_post(f"127.0.0.1:{server.__enter__()}", "/", {}))
        time.sleep(0.2)
        server.__exit__(None, None, None)
        assert sock.recv(65536).startswith(b"HTTP/1.1 503 ")
