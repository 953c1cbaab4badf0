"""`up` with real processes: what its window shows, how it stops, and what happens when a part dies."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

import windows
from modelengine import ChatClient, NameServerClient, errors
from modelengine.cli.replicas import Replicas
from windows import TESTS, Window

UP = "ModelEngineInferenceEngine: demo is running! port: "


@contextmanager
def up(kind: str) -> Iterator[Window]:
    """`up` with a stand-in for the engine."""
    with windows.opened([sys.executable, str(TESTS / "stand_in_up.py"), kind]) as window:
        yield window


def host_of(window: Window) -> str:
    window.until("NameServer: in memory, running! port: ")
    found = re.search(r"NameServer: in memory, running! port: (\d+)", window.out)
    assert found is not None
    return f"127.0.0.1:{found[1]}"


def engine_pid(host: str) -> int:
    with Replicas(host) as client:
        (service,) = client.all()
        return int(client.replica_info(service)["pid"])


def children(window: Window) -> list[psutil.Process]:
    return psutil.Process(window.process.pid).children(recursive=True)


def all_gone(processes: list[psutil.Process], within_s: float) -> bool:
    return not psutil.wait_procs(processes, timeout=within_s)[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_window_shows_what_the_first_example_showed(number: signal.Signals) -> None:
    with up("good") as window:
        window.until("try port")
        host = host_of(window)
        with ChatClient(host) as client:
            (service,) = client.wait_service_available("demo", timeout=5)
        started = children(window)
        window.process.send_signal(number)
        assert window.end() == 0
        assert window.out.splitlines() == [
            f"ModelEngineNameServer: in memory, running! port: {host.split(':')[1]}",
            f"ModelEngineInferenceEngine: demo is running! port: {service.port}",
            "ModelEngineNameServer clean_up!",
            "ModelEngineInferenceEngine clean_up!",
        ]
        assert len(started) == 2
        assert all_gone(started, within_s=0.1)


def test_a_name_server_that_asks_for_keys_knows_the_engines_that_were_started_with_it(tmp_path: Path) -> None:
    (tmp_path / "alice").write_text("the-key-of-alice-herself")
    command = [sys.executable, str(TESTS / "stand_in_up.py"), "good"]
    with windows.opened(command, MODELENGINE_API_KEYS=str(tmp_path)) as window:
        # Said when the engine is on the list, so this window may read that.
        window.until(UP)
        host = host_of(window)
        with ChatClient(host, api_key="the-key-of-alice-herself") as client:
            assert client.chat("demo", [{"role": "user", "content": "hi"}]).content.startswith("w0 ")
        with ChatClient(host) as client, pytest.raises(errors.Unauthorized):
            client.get_service_names()
        window.process.send_signal(signal.SIGINT)
        assert window.end() == 0
        assert "not deregistered" not in window.err


def test_an_answer_in_progress_is_finished_before_the_engine_goes() -> None:
    with up("slow") as window:
        window.until(UP)
        with (
            ChatClient(host_of(window)) as client,
            client.chat("demo", [{"role": "user", "content": "hi"}], stream=True) as parts,
        ):
            next(parts)
            window.interrupt()
            window.until("ModelEngineNameServer clean_up!")
            assert "Engine clean_up" not in window.out
            assert list(parts)[-1].done
        assert window.end() == 0
        assert window.out.endswith("ModelEngineNameServer clean_up!\nModelEngineInferenceEngine clean_up!\n")


def test_a_killed_engine_is_told_and_restarted() -> None:
    with up("good") as window:
        window.until(UP)
        host = host_of(window)
        pid = engine_pid(host)
        os.kill(pid, signal.SIGKILL)
        window.until(f"engine demo (pid {pid}) ended with signal 9; restarting in 1 s")
        window.until(UP, times=2)
        with NameServerClient(host) as names:
            ports = {service.port for service in names.get_services("chat", "demo")}
        assert int(window.out.rsplit("port: ", 1)[1]) in ports
        window.interrupt()
        assert window.end() == 0


def test_a_killed_name_server_comes_back_on_its_port_and_finds_the_engine_again() -> None:
    with up("good") as window:
        window.until(UP)
        host = host_of(window)
        engine = engine_pid(host)
        (door,) = [child for child in children(window) if child.pid != engine]
        door.kill()
        window.until(f"name server (pid {door.pid}) ended with signal 9; restarting in 1 s")
        window.until(f"running! port: {host.split(':')[1]}\n", times=2)
        with ChatClient(host) as client:
            client.wait_service_available("demo", timeout=20)
        assert engine_pid(host) == engine
        window.interrupt()
        assert window.end() == 0


def test_an_engine_that_fails_at_its_start_stops_everything_with_1() -> None:
    with up("broken") as window:
        assert window.end() == 1
        assert window.err.splitlines()[0] == "error: the stand-in is broken"
        assert re.fullmatch(r"engine demo \(pid \d+\) ended with exit code 1 at its start", window.err.splitlines()[1])
        assert window.out.splitlines()[1:] == ["ModelEngineNameServer clean_up!"]


def test_a_second_ctrl_c_ends_what_does_not_want_to_stop() -> None:
    with up("stubborn") as window:
        window.until("stubborn is here")
        started = children(window)
        window.interrupt()
        window.until("stopping; Ctrl-C again forces")
        window.until("ModelEngineNameServer clean_up!")
        assert window.process.poll() is None
        window.interrupt()
        assert window.end(timeout_s=10) == 0
        assert all_gone(started, within_s=0.1)


def test_nothing_outlives_an_up_that_was_killed() -> None:
    with up("good") as window:
        window.until(UP)
        started = children(window)
        assert len(started) == 2
        window.process.kill()
        window.process.wait()
        assert all_gone(started, within_s=20)


def test_a_taken_port_is_one_line_that_says_by_whom_and_exit_code_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = windows.modelengine("up", "--port", str(port))
    assert done.returncode == 1
    assert done.stdout == ""
    first, second = done.stderr.splitlines()
    assert first.startswith(f"error: port {port} on 127.0.0.1 is taken by ")
    assert re.fullmatch(r"name server \(pid \d+\) ended with exit code 1 at its start", second)


def test_a_model_that_is_not_there_is_one_line_and_exit_code_1() -> None:
    done = windows.modelengine("up", "./no/such/folder", "--port", "0")
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == "error: model folder no/such/folder: no such folder"
    assert done.stdout.splitlines()[1:] == ["ModelEngineNameServer clean_up!"]


def test_up_without_engines_is_a_name_server() -> None:
    with windows.opened([*windows.COMMAND, "up", "--engines", "0", "--port", "0"]) as window:
        window.until(" ls    stop: Ctrl-C")
        with NameServerClient(host_of(window)) as names:
            assert names.get_service_names("chat") == []
        window.interrupt()
        assert window.end() == 0
        assert window.out.splitlines()[1:] == ["ModelEngineNameServer clean_up!"]


def test_up_goes_on_when_nobody_reads_its_lines() -> None:
    with windows.opened(["bash", "-c", f"{' '.join(windows.COMMAND)} up --engines 0 --port 0 | head -n 1"]) as window:
        window.until("running! port: ")
        with NameServerClient(host_of(window)) as names:
            time.sleep(0.5)
            assert names.info()["kind"] == "in memory"
        (supervisor,) = [child for child in children(window) if "up" in child.cmdline()]
        supervisor.send_signal(signal.SIGINT)
        assert window.end() == 0
        assert "Traceback" not in window.err
