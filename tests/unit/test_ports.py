"""Who holds a port: what a server says when it can't have the one it wants."""

from __future__ import annotations

import http.server
import os
import socket
import threading
from collections.abc import Iterator

import pytest

from fakes import FakeEngine
from modelengine import errors, ports
from modelengine_api import programs
from modelengine_gateway import app
from modelengine_gateway.settings import Settings
from servers import running


@pytest.fixture
def silent_listener() -> Iterator[int]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield sock.getsockname()[1]


def test_a_name_server_on_the_port_is_named_with_version_and_pid_and_another_port_is_offered() -> None:
    with running(app.create(Settings()).app) as port, pytest.raises(errors.PortTaken) as failure:
        programs.listen("127.0.0.1", port)
    assert f"port {port} on 127.0.0.1 is taken by a ModelEngine name server (version 0." in failure.value.message
    assert f"pid {os.getpid()})" in failure.value.message
    assert "--port N or MODELENGINE_LISTEN_PORT" in failure.value.message


def test_an_engine_on_the_port_is_named_with_its_model() -> None:
    with running(FakeEngine("qwen").app()) as port:
        assert ports.describe_listener("0.0.0.0", port) == (
            f"a ModelEngine engine that serves 'qwen' (version 0, pid {os.getpid()})"
        )


def test_another_program_is_named_by_process_pid_and_command(
    silent_listener: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ports, "ASK_TIMEOUT_S", 0.1)
    phrase = ports.describe_listener("127.0.0.1", silent_listener)
    assert f"(pid {os.getpid()}: " in phrase
    assert "py" in phrase


def test_a_foreign_web_server_is_not_taken_for_ours() -> None:
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        assert f"(pid {os.getpid()}: " in ports.describe_listener("127.0.0.1", server.server_port)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_listener_that_cannot_be_seen_is_still_another_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psutil.net_connections", lambda kind: [])
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        assert ports.describe_listener("127.0.0.1", sock.getsockname()[1]).startswith("another program")


def test_a_host_that_is_not_ours_is_refused_in_one_sentence() -> None:
    with pytest.raises(errors.InvalidRequest, match=r"can't listen on 192\.0\.2\.1:0: "):
        programs.listen("192.0.2.1", 0)
