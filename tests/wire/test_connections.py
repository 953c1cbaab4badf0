"""What a connection may take: who sends or reads too slowly, too much, or no HTTP, is told so and shut out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack

import pytest
import uvloop
from fastapi import FastAPI, Response
from fastapi.responses import StreamingResponse
from uvicorn.protocols.http import httptools_impl

from callers import ask, until
from fakes import FakeEngine
from modelengine_api import connections, doors, programs, streaming
from modelengine_api.connections import Bounds
from servers import running

BODY = json.dumps({"model": "demo", "messages": [{"role": "user", "content": "hi"}], "stream": False}).encode()
HEAD = b"POST /engine/inference HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(BODY)
QUICK = Bounds(head_s=0.3, request_s=0.3, stall_s=1.5)


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "LOOK_S", 0.05)


@contextlib.contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
        yield sock


def all_of(sock: socket.socket) -> bytes:
    """What comes until the server closes."""
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while data := sock.recv(65536):
            found += data
    return found


def read_answer(sock: socket.socket) -> None:
    """One answer that went well."""
    found = b""
    while b'"state":"ok"' not in found:
        data = sock.recv(65536)
        assert data, found
        found += data


def refusal(raw: bytes) -> tuple[int, str]:
    """Status and code of the one answer that this is, and the connection is closed after it."""
    head, _, body = raw.partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    assert raw.count(b"\r\ncontent-length: ") == 1
    return int(head.split()[1]), json.loads(body)["code"]


def answered(port: int, raw: bytes) -> tuple[int, str]:
    with connected(port) as sock:
        sock.sendall(raw)
        return refusal(all_of(sock))


def test_who_connects_and_says_nothing_is_shut_out_without_a_word() -> None:
    with running(FakeEngine().app(), bounds=QUICK) as port, connected(port) as sock:
        assert all_of(sock) == b""


def trickled(sock: socket.socket, begin: bytes, piece: bytes) -> bytes:
    sock.sendall(begin)
    sock.settimeout(0.05)
    for _ in range(100):
        with contextlib.suppress(TimeoutError):
            return sock.recv(65536) + all_of(sock)
        try:
            sock.sendall(piece)
        except OSError:
            break
    raise AssertionError("nobody stopped it")


def test_a_head_that_trickles_in_is_a_408() -> None:
    with running(FakeEngine().app(), bounds=QUICK) as port, connected(port) as sock:
        assert refusal(trickled(sock, b"GET /ready HTTP/1.1\r\n", b"a: b\r\n")) == (408, "too_slow")


def test_empty_lines_are_no_way_to_stay_connected() -> None:
    with running(FakeEngine().app(), bounds=QUICK) as port, connected(port) as sock:
        sock.sendall(b"GET /ready HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert b" 200 " in sock.recv(65536)
        assert refusal(trickled(sock, b"\r\n", b"\r\n")) == (408, "too_slow")


@pytest.mark.parametrize("framing", [b"content-length: 1000", b"transfer-encoding: chunked"])
def test_a_body_that_trickles_in_is_a_408_and_the_engine_is_not_asked(framing: bytes) -> None:
    fake = FakeEngine()
    begin = b"POST /engine/inference HTTP/1.1\r\nhost: localhost\r\n" + framing + b"\r\n\r\n"
    piece = b" " if b"length" in framing else b"1\r\n \r\n"
    with running(fake.app(), bounds=QUICK) as port, connected(port) as sock:
        assert refusal(trickled(sock, begin, piece)) == (408, "too_slow")
    assert fake.requests == []


def test_an_answer_that_takes_longer_than_any_deadline_is_not_cut() -> None:
    with running(FakeEngine(pause_s=0.25).app(), bounds=QUICK) as port, connected(port) as sock:
        for _ in range(2):
            sock.sendall(HEAD + BODY)
            read_answer(sock)


def test_a_connection_that_was_used_may_be_idle_longer_than_a_head_may_take() -> None:
    with running(FakeEngine().app(), bounds=QUICK) as port, connected(port) as sock:
        for _ in range(2):
            sock.sendall(HEAD + BODY)
            read_answer(sock)
            time.sleep(1)


def test_requests_sent_ahead_wait_for_the_answers_before_them_however_long() -> None:
    fake = FakeEngine(pause_s=0.25)
    with running(fake.app(), bounds=QUICK) as port, connected(port) as sock:
        sock.sendall(HEAD + BODY + HEAD)
        read_answer(sock)
        sock.sendall(BODY)
        read_answer(sock)
    assert len(fake.requests) == 2


@pytest.mark.parametrize(
    "head",
    [
        b"a: " + b"x" * 20_000 + b"\r\n\r\n",
        b"".join(b"a%d: %s\r\n" % (i, b"x" * 800) for i in range(40)) + b"\r\n",
        b"".join(b"a%d: b\r\n" % i for i in range(100)) + b"\r\n",
        # No end at all.
        b"a: " + b"x" * 20_000,
    ],
    ids=["a long header", "many long headers", "many headers", "a header without an end"],
)
def test_a_head_over_the_limit_is_a_431(head: bytes) -> None:
    with running(FakeEngine().app()) as port:
        assert answered(port, b"GET /ready HTTP/1.1\r\n" + head) == (431, "headers_too_large")
        assert answered(port, b"GET /ready?" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n")[0] == 431


def test_a_head_just_under_the_limit_is_read() -> None:
    headers = {f"a{i}": "x" * 250 for i in range(55)}
    with running(FakeEngine().app()) as port:
        assert ask(f"127.0.0.1:{port}", "/ready", method="GET", headers=headers).status == 200


@pytest.mark.parametrize(
    "raw",
    [
        HEAD.replace(b"\r\n\r\n", b"\r\ntransfer-encoding: chunked\r\n\r\n") + BODY,
        HEAD.replace(b"content-length: ", b"content-length: 7\r\ncontent-length: ") + BODY,
        HEAD.replace(b"content-length: ", b"content-length: -") + BODY,
        HEAD.replace(b"\r\n", b"\n") + BODY,
        HEAD.replace(b"host", b"ho st") + BODY,
        HEAD.replace(b"localhost", b"local\x00host") + BODY,
        HEAD.replace(b"HTTP/1.1", b"HTTP/9.9") + BODY,
        HEAD.replace(b"content-length: %d" % len(BODY), b"transfer-encoding: chunked") + b"zz\r\nxx\r\n0\r\n\r\n",
        HEAD.replace(b"content-length: %d" % len(BODY), b"transfer-encoding: chunked") + b"2\r\nxxx\r\n0\r\n\r\n",
        HEAD.replace(b"content-length: %d" % len(BODY), b"transfer-encoding: chunked") + b"f" * 17 + b"\r\nx\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
    ids=[
        "length and chunks",
        "two lengths",
        "a negative length",
        "bare line feeds",
        "a space in a name",
        "a NUL",
        "a version that is none",
        "a chunk without a size",
        "a chunk of another size",
        "a chunk size beyond all numbers",
        "HTTP/2",
        "TLS",
    ],
)
def test_what_is_no_proper_http_is_a_400_and_the_end_of_the_connection(raw: bytes) -> None:
    fake = FakeEngine()
    with running(fake.app()) as port:
        assert answered(port, raw) == (400, "invalid_request")
    assert fake.requests == []


def test_a_refusal_speaks_the_language_of_the_api_that_was_asked() -> None:
    with running(FakeEngine().app()) as port, connected(port) as sock:
        sock.sendall(b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: x\r\n\r\n")
        body = json.loads(all_of(sock).partition(b"\r\n\r\n")[2])
    assert body["error"]["type"] == "invalid_request_error"


def large(lines: bool) -> FastAPI:
    app = FastAPI()
    doors.install(app)

    async def parts() -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(0)
            yield b"x" * 1_000_000 + b"\n"

    @app.get("/")
    async def whole() -> Response:
        return streaming.LineStream(parts()) if lines else Response(b"x" * 50_000_000)

    return app


@pytest.mark.parametrize("lines", [True, False], ids=["a stream", "a whole answer"])
def test_a_client_that_stops_reading_is_cut_off_and_one_that_reads_slowly_is_not(lines: bool) -> None:
    with running(large(lines), bounds=QUICK, grace_s=0) as port, connected(port) as slow, connected(port) as stalled:
        for sock in (slow, stalled):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            sock.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        for _ in range(40):
            time.sleep(0.1)
            assert len(slow.recv(1_000_000)) > 0
        # What the kernels held still comes, and then the end that is none.
        with pytest.raises((ConnectionResetError, AssertionError)):
            assert len(all_read(stalled)) > 30_000_000


def all_read(sock: socket.socket) -> bytes:
    found = bytearray()
    while data := sock.recv(1_000_000):
        found += data
        if len(found) > 30_000_000:
            break
    return bytes(found)


def test_more_connections_than_allowed_hear_503_and_the_server_recovers() -> None:
    with running(FakeEngine().app(), bounds=Bounds(connections=5)) as port, ExitStack() as stack:
        address = f"127.0.0.1:{port}"
        for _ in range(5):
            stack.enter_context(connected(port))
        assert until(lambda: ask(address, "/ready", method="GET").status == 503)
        reply = ask(address, "/ready", method="GET")
        assert (reply.envelope["code"], reply.headers["retry-after"]) == ("unavailable", "1")
        assert reply.headers["connection"] == "close"
        stack.close()
        assert until(lambda: ask(address, "/ready", method="GET").status == 200)


def test_no_more_connections_are_taken_than_files_may_be_open() -> None:
    assert Bounds(connections=1000).that_fit(1024).connections == 480
    assert Bounds(connections=1000).that_fit(1_000_000).connections == 1000
    assert Bounds().that_fit(10).connections == 1


def test_the_kernel_asks_clients_that_are_silent_and_gives_them_up_in_half_a_minute() -> None:
    with programs.listen("127.0.0.1", 0) as listening, connected(listening.getsockname()[1]):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            idle_s = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
            every_s = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL)
            tries = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT)
            assert idle_s + every_s * tries <= 30
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) <= 30_000


def test_two_hundred_slow_clients_of_every_kind_keep_nobody_else_waiting() -> None:
    """The slowest of others' requests may take a second, on a machine that does other things as well."""
    bounds = Bounds(head_s=2, request_s=2)
    begins = (b"", b"GET /ready HTTP/1.1\r\na: b", HEAD + BODY[:5])
    with running(FakeEngine().app(), bounds=bounds) as port, ExitStack() as stack:
        slow = [stack.enter_context(connected(port)) for _ in range(201)]
        for i, sock in enumerate(slow):
            sock.sendall(begins[i % 3])
        took = []
        for _ in range(50):
            started = time.monotonic()
            assert ask(f"127.0.0.1:{port}", "/engine/inference", BODY).status == 200
            took.append(time.monotonic() - started)
        assert max(took) < 1
        ended = [all_of(sock) for sock in slow]
    assert [raw[9:12] for raw in ended[:3]] == [b"", b"408", b"408"]
    assert len(set(ended)) == 3


def test_the_head_of_an_answer_goes_out_with_the_first_of_its_body_or_alone_where_that_takes_time() -> None:
    app = FastAPI()

    @app.get("/at-once")
    async def at_once() -> Response:
        return Response(b"body")

    @app.head("/at-once")
    async def only_the_head() -> Response:
        return Response(headers={"x-only": "head"})

    @app.get("/later")
    async def later() -> StreamingResponse:
        async def slowly() -> AsyncIterator[bytes]:
            await asyncio.sleep(0.3)
            yield b"body"

        return StreamingResponse(slowly())

    with running(app) as port, connected(port) as sock:

        def first_of(request: bytes) -> bytes:
            sock.sendall(request + b" HTTP/1.1\r\nhost: localhost\r\n\r\n")
            return sock.recv(65536)

        assert first_of(b"GET /at-once").endswith(b"\r\n\r\nbody")
        assert b"x-only: head" in first_of(b"HEAD /at-once")
        assert first_of(b"GET /later").endswith(b"\r\n\r\n")
        assert sock.recv(65536).startswith(b"4\r\nbody")


def test_what_is_said_on_a_connection_that_just_broke_is_dropped() -> None:
    async def complaints() -> list[str]:
        found: list[str] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: found.append(context["message"]))
        ours, theirs = socket.socketpair()
        with theirs:
            transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, ours)
            joined = connections.Joined(transport, loop)
            joined.write(b"head")
            transport.abort()
            await asyncio.sleep(0)
            joined.write(b"body")
            await asyncio.sleep(0)
        return found

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(complaints()) == []


def test_what_is_relied_on_of_uvicorns_inside_is_there() -> None:
    """Fails when a newer uvicorn has other callbacks or attributes: `connections.py` must be read again then."""
    names = httptools_impl.HttpToolsProtocol.__init__.__code__.co_names
    assert {"app", "connections", "cycle", "loop", "pipeline", "transport"} <= set(names)
    callbacks = ("connection_made", "data_received", "on_header", "on_headers_complete", "on_message_begin")
    for name in (*callbacks, "on_message_complete", "send_400_response", "_unset_keepalive_if_required"):
        assert name in vars(httptools_impl.HttpToolsProtocol), name
    cycle = httptools_impl.RequestResponseCycle.__init__.__code__.co_names
    assert {"disconnected", "message_event", "response_complete", "response_started", "transport"} <= set(cycle)
