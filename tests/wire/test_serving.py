"""The front door as a process: how it starts, refuses to start, and stops."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from callers import TESTS, ask, through
from fakes import FakeEngine
from modelengine import ChatClient, NameServerClient, ServerInfo, errors
from modelengine_api import serving
from servers import running

StartFrontDoor = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start_front_door() -> Iterator[StartFrontDoor]:
    started = []

    def start(**variables: str) -> subprocess.Popen[str]:
        env = {k: v for k, v in os.environ.items() if not k.startswith("MODELENGINE_")}
        process = subprocess.Popen(
            [sys.executable, "-m", "modelengine_gateway"],
            env={**env, "MODELENGINE_LISTEN_PORT": "0", **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        with process:
            pass


def port_of(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("ModelEngineNameServer: in memory, running! port: ")
    return int(line.rpartition(" ")[2])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly_with_code_0_and_a_last_word(
    start_front_door: StartFrontDoor, number: signal.Signals
) -> None:
    process = start_front_door()
    assert ask(f"127.0.0.1:{port_of(process)}", "/ready", method="GET").status == 200
    process.send_signal(number)
    out, err = process.communicate(timeout=5)
    assert (process.returncode, out, err) == (0, "ModelEngineNameServer clean_up!\n", "")


def test_a_stop_begins_with_the_farewell_so_that_no_watch_holds_it_up(start_front_door: StartFrontDoor) -> None:
    process = start_front_door(MODELENGINE_GRACE_S="60")
    with NameServerClient(f"127.0.0.1:{port_of(process)}") as names, names.watch() as watch:
        assert next(watch) == []
        process.terminate()
        assert process.wait(timeout=5) == 0
        with pytest.raises(errors.Unavailable, match="stopping"):
            next(watch)


def test_the_kernel_has_room_for_all_its_files_before_anybody_comes(start_front_door: StartFrontDoor) -> None:
    """Where it makes room later, all streams stand still for 10 to 20 ms."""
    process = start_front_door(MODELENGINE_MAX_CONNECTIONS="700")
    port_of(process)
    status = Path(f"/proc/{process.pid}/status").read_text().split()
    assert int(status[status.index("FDSize:") + 1]) >= 1400


def test_a_taken_port_is_one_line_on_stderr_and_code_1(start_front_door: StartFrontDoor) -> None:
    port = port_of(start_front_door())
    second = start_front_door(MODELENGINE_LISTEN_PORT=str(port))
    out, err = second.communicate(timeout=10)
    assert (second.returncode, out, err.count("\n")) == (1, "", 1)
    assert err.startswith(f"error: port {port} on 127.0.0.1 is taken by a ModelEngine name server (version ")


def test_a_bad_setting_is_one_line_on_stderr_and_code_1(start_front_door: StartFrontDoor) -> None:
    process = start_front_door(MODELENGINE_LEASE_S="60")
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out) == (1, "")
    assert err == "error: MODELENGINE_LEASE_S: must be a number from 0.3 to 10, got '60'\n"


def test_it_ends_with_its_stdin_when_its_parent_asked_for_that(start_front_door: StartFrontDoor) -> None:
    process = start_front_door(MODELENGINE_EXIT_WITH_STDIN="1")
    port_of(process)
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(timeout=5) == 0


def test_it_outlives_its_stdin_when_nobody_asked(start_front_door: StartFrontDoor) -> None:
    process = start_front_door()
    address = f"127.0.0.1:{port_of(process)}"
    assert process.stdin is not None
    process.stdin.close()
    time.sleep(0.5)
    assert ask(address, "/ready", method="GET").status == 200


def test_an_open_answer_may_finish_after_the_signal_while_new_ones_are_refused(
    start_front_door: StartFrontDoor,
) -> None:
    process = start_front_door()
    address = f"127.0.0.1:{port_of(process)}"
    with running(FakeEngine(pause_s=0.3).app()) as engine_port:
        register(address, engine_port)
        with ChatClient(address) as client, through(address, client) as stream:
            next(stream)
            process.terminate()
            time.sleep(0.4)
            with pytest.raises(ConnectionRefusedError):
                ask(address, "/ready", method="GET")
            assert [part.done for part in stream][-1] is True
    assert process.wait(timeout=5) == 0


@pytest.mark.parametrize(("grace_s", "second_signal"), [("0.3", False), ("60", True)])
def test_an_open_answer_is_cut_by_the_end_of_the_grace_or_a_second_signal_and_told_so(
    start_front_door: StartFrontDoor, grace_s: str, second_signal: bool
) -> None:
    process = start_front_door(MODELENGINE_GRACE_S=grace_s)
    address = f"127.0.0.1:{port_of(process)}"
    with running(FakeEngine(words=["x"] * 1000, pause_s=0.05).app()) as engine_port:
        register(address, engine_port)
        with ChatClient(address) as client, through(address, client) as stream:
            next(stream)
            started = time.monotonic()
            process.terminate()
            if second_signal:
                time.sleep(0.2)
                process.terminate()
            with pytest.raises(errors.Unavailable, match="stopping"):
                list(stream)
            assert process.wait(timeout=5) == 0
            assert time.monotonic() - started < 3


def register(address: str, engine_port: int) -> None:
    with NameServerClient(address) as names:
        names.register(ServerInfo("demo", "127.0.0.1", engine_port))


def test_requests_are_answered_until_the_farewell_is_over() -> None:
    """Whoever looked the server up before it left the list may still come."""
    code = """
import asyncio, fakes
from modelengine_api import serving
serving.serve(fakes.FakeEngine().app(), "127.0.0.1", 0, on_listening=lambda port: print(port, flush=True),
              on_stop=lambda: asyncio.sleep(1))
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=TESTS, stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        address = f"127.0.0.1:{int(process.stdout.readline())}"
        process.terminate()
        time.sleep(0.5)
        assert ask(address, "/ready", method="GET").status == 200
    assert process.returncode == 0


def test_a_farewell_that_fails_does_not_hold_up_the_stop(caplog: pytest.LogCaptureFixture) -> None:
    async def fails() -> None:
        raise errors.ConnectionFailed("the name server is gone")

    with running(FakeEngine().app(), on_stop=fails, grace_s=30):
        pass
    assert "leaving was not clean: the name server is gone" in caplog.text


def test_a_farewell_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "ON_STOP_S", 0.2)
    started = time.monotonic()
    with running(FakeEngine().app(), on_stop=lambda: asyncio.sleep(60), grace_s=30):
        pass
    assert time.monotonic() - started < 2


def test_a_client_that_takes_not_even_its_last_line_is_dropped() -> None:
    fake = FakeEngine(words=["x" * 100_000] * 1000)
    with ExitStack() as stack:
        server = running(fake.app(), grace_s=0.2)
        client = stack.enter_context(ChatClient())
        stream = stack.enter_context(through(f"127.0.0.1:{server.__enter__()}", client))
        next(stream)
        started = time.monotonic()
        server.__exit__(None, None, None)
        assert time.monotonic() - started < 3
        with pytest.raises(errors.StreamBroken):
            list(stream)


def test_a_host_that_does_not_exist_is_one_line_on_stderr(start_front_door: StartFrontDoor) -> None:
    process = start_front_door(MODELENGINE_LISTEN_HOST="no.such.host.invalid")
    _, err = process.communicate(timeout=10)
    assert (process.returncode, err.count("\n")) == (1, 1)
    assert err.startswith("error: can't listen on 'no.such.host.invalid': ")
