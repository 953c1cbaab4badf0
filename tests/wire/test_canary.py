"""What callers say stays out of the logs, whatever goes wrong; and what they name can't forge a line of them."""

from __future__ import annotations

import itertools
import json
import logging
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import processes
from callers import ask, engine_process, until
from fakes import FakeEngine
from modelengine import NameServerClient, ServerInfo, errors
from processes import Server
from servers import running

CANARY = "canary-3f9a1c77"
KEY = "the-key-canary-3f9a1c77"
ROUTES = ("/engine/inference", "/v1/chat/completions", "/v1/completions", "/v1/responses", "/api/chat", "/api/generate")
FORGED = "demo\r\n2026-01-01 00:00:00 CRITICAL forged: line\x1b[31m\x1b]0;title\x07\u2028"


@pytest.fixture
def door(tmp_path: Path) -> Iterator[tuple[str, Server]]:
    """A front door in a process of its own that logs all it can say."""
    port = processes.free_port()
    with processes.front_door(tmp_path, port, log_level="DEBUG", lease_s=10) as server:
        yield f"127.0.0.1:{port}", server


def said(**changes: Any) -> Iterator[dict[str, Any]]:
    """Requests with the canary in each place where a caller's words can stand."""
    message = {"role": "user", "content": CANARY}
    good = {"model": "demo", "messages": [message], "prompt": CANARY, "input": CANARY, **changes}
    yield good
    yield {**good, "stream": False}
    yield {**good, "options": {"temperature": CANARY}, "temperature": CANARY}
    yield {**good, "options": {"stop": CANARY}, "stop": CANARY}
    yield {**good, CANARY: CANARY}
    yield {**good, "messages": [{"role": CANARY, "content": CANARY}]}
    yield {**good, "messages": CANARY}
    yield {**good, "messages": [{**message, "tool_calls": [{"id": CANARY}]}]}
    yield {**good, "tools": [{"type": "function", "function": {"name": CANARY, "description": CANARY}}]}
    yield {**good, "format": {"type": CANARY}, "response_format": {"type": CANARY}}
    yield {**good, "model": f"nobody-{CANARY}"}


def ask_everything(address: str) -> int:
    """Well and badly formed, whole and cut, with and without a key; gives how many were sent."""
    sent = 0
    for route, body in itertools.product(ROUTES, said()):
        raw = json.dumps(body).encode()
        for bad in (raw, raw[:-2], raw + b"}", raw.replace(b'"demo"', b'"\xff"'), b"[" * 70 + raw):
            ask(address, route, bad, headers={"authorization": f"Bearer {KEY}", "x-request-id": "of-mine"})
            sent += 1
    host, port = address.split(":")
    for raw in (
        b"POST /engine/inference HTTP/1.1\r\ncontent-length: x\r\n\r\n" + CANARY.encode(),
        b"POST /engine/inference HTTP/1.1\r\nauthorization: " + KEY.encode() + b"\x00\r\n\r\n",
        CANARY.encode() * 1000,
    ):
        with socket.create_connection((host, int(port)), timeout=5) as sock:
            sock.sendall(raw + b"\r\n\r\n")
            sock.recv(65536)
        sent += 1
    return sent


def test_no_word_of_a_request_is_in_the_logs_whether_it_goes_well_or_wrong(
    door: tuple[str, Server], caplog: pytest.LogCaptureFixture
) -> None:
    address, server = door
    caplog.set_level(logging.DEBUG)
    failures: list[errors.ModelEngineError | None] = [None, errors.RequestFailed("it broke"), errors.Busy("full")]
    sent = 0
    for refusal in failures:
        fake = FakeEngine(refusal=refusal)
        with running(fake.app()) as port, NameServerClient(address) as names:
            info = ServerInfo("demo", "127.0.0.1", port)
            names.register(info)
            sent += ask_everything(address)
            names.deregister(info)
    assert sent > 900
    assert "listed" in server.output
    assert CANARY not in server.output
    # The engine's own words: it runs in this process, with the same surface as a real one.
    assert not [record for record in caplog.records if CANARY in record.getMessage() and record.name != "urllib3"]


def test_no_word_of_an_answer_that_breaks_is_in_the_logs(door: tuple[str, Server]) -> None:
    address, server = door
    for break_by in ("raise", "end", "kill"):
        words = [CANARY] * 5
        with engine_process("demo", words=words, break_after=3, break_by=break_by) as (_, info):
            with NameServerClient(address) as names:
                names.register(info)
            body = {"model": "demo", "messages": [{"role": "user", "content": CANARY}]}
            assert CANARY in ask(address, "/engine/inference", body).body.decode()
            with NameServerClient(address) as names:
                names.deregister(info)
    assert CANARY not in server.output


def test_a_crash_leaves_no_word_in_the_logs(door: tuple[str, Server]) -> None:
    """Killed in the middle of many answers, as by a full memory."""
    address, server = door
    fake = FakeEngine(words=[CANARY] * 1000, pause_s=0.05)
    with running(fake.app(), grace_s=0) as port:
        with NameServerClient(address) as names:
            names.register(ServerInfo("demo", "127.0.0.1", port))
        body = {"model": "demo", "messages": [{"role": "user", "content": CANARY}]}

        def talk() -> None:
            with pytest.raises(Exception):  # noqa: B017, PT011  # however the client notices
                ask(address, "/engine/inference", body)

        threads = [threading.Thread(target=talk) for _ in range(5)]
        for thread in threads:
            thread.start()
        assert until(lambda: fake.open_streams == 5, 5)
        server.process.send_signal(signal.SIGABRT)
        server.process.wait(10)
        for thread in threads:
            thread.join(10)
    assert CANARY not in server.output


def test_a_name_with_line_ends_and_terminal_codes_forges_no_line_of_log_or_answer(door: tuple[str, Server]) -> None:
    address, server = door
    fake = FakeEngine(FORGED)
    with running(fake.app()) as port, NameServerClient(address) as names:
        names.register(ServerInfo(FORGED, "127.0.0.1", port))
        asked = {"model": FORGED, "messages": [{"role": "user", "content": "hi"}]}
        replies = [
            ask(address, "/v1/models", method="GET"),
            ask(address, "/nameserver/get_service_names", {"protocol": "chat"}),
            ask(address, "/engine/inference", asked),
            ask(address, "/engine/inference", {**asked, "model": f"x{FORGED}"}),
            ask(address, "/api/tags", method="GET"),
        ]
        names.deregister(ServerInfo(FORGED, "127.0.0.1", port))
    for reply in replies:
        assert b"\x1b" not in reply.body
        assert b"\r" not in reply.body
        assert not any("\x1b" in value or "forged" in value for value in reply.headers.values())
    assert "forged" in server.output
    assert "\x1b" not in server.output
    assert not any(line.startswith("2026-01-01") for line in server.output.splitlines())
