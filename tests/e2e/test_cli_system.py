"""The whole system as a user has it: `up` with the demo model in one window, everything else in a second."""

from __future__ import annotations

import json
import re
from typing import Protocol

import psutil
import pytest
import yaml

import transcript
import windows
from modelengine import ChatClient
from windows import modelengine


class System(Protocol):
    """What these tests use of the fixture."""

    @property
    def host(self) -> str: ...


@pytest.fixture
def engine_port(system: System) -> int:
    with ChatClient(system.host) as client:
        (service,) = client.wait_service_available("demo", timeout=5)
    return service.port


def test_the_second_window_shows_what_the_first_example_showed(system: System, engine_port: int) -> None:
    done = modelengine("demo", "--host", system.host)
    assert (done.returncode, done.stderr) == (0, "")
    transcript.check(done.stdout.splitlines(), engine_port)


def test_demo_up_shows_both_windows_and_leaves_nothing_behind() -> None:
    done = modelengine("demo", "--up", "--port", "0", "--prompt", "hello")
    assert (done.returncode, done.stderr) == (0, "")
    first, second, *lines = done.stdout.splitlines()
    assert re.fullmatch(r"ModelEngineNameServer: in memory, running! port: \d+", first)
    assert re.fullmatch(r"ModelEngineInferenceEngine: demo is running! port: \d+", second)
    assert lines[-2:] == ["ModelEngineNameServer clean_up!", "ModelEngineInferenceEngine clean_up!"]
    transcript.check(lines[:-2], int(second.rsplit(" ", 1)[1]))


def test_a_demo_that_cannot_start_says_why_and_fails() -> None:
    done = modelengine("demo", "--up", "--port", "0", "--model", "./nowhere")
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert lines[0] == "error: model folder nowhere: no such folder"
    assert lines[-1] == "error: the system did not start"
    assert done.stdout.splitlines()[1:] == ["ModelEngineNameServer clean_up!"]


def test_ctrl_c_in_a_demo_stops_what_it_started() -> None:
    with windows.opened([*windows.COMMAND, "demo", "--up", "--port", "0", "--model", "demo"]) as window:
        window.until("NameServer: in memory, running!")
        started = psutil.Process(window.process.pid).children(recursive=True)
        window.interrupt()
        assert window.end() == 130
        assert len(started) >= 2
        assert not psutil.wait_procs(started, timeout=0.5)[1]
        assert "ModelEngineNameServer clean_up!" in window.out
        assert "Traceback" not in window.err


def test_the_lists_say_what_is_served_and_by_whom(system: System, engine_port: int) -> None:
    names = modelengine("ls", host=system.host).stdout.splitlines()
    assert [line.split() for line in names] == [["NAME", "PROTOCOL", "REPLICAS"], ["demo", "chat", "1"]]
    header, row = (line.split() for line in modelengine("ps", host=system.host).stdout.splitlines())
    assert header == ["NAME", "HOST", "PORT", "DEVICE", "DTYPE", "CONTEXT", "RUNNING", "WAITING", "UPTIME"]
    assert row[:4] == ["demo", "127.0.0.1", str(engine_port), "cpu"]
    assert row[6:8] == ["0", "0"]


def test_lists_can_be_read_by_programs(system: System, engine_port: int) -> None:
    (name,) = json.loads(modelengine("ls", "-o", "json", host=system.host).stdout)
    assert name == {"name": "demo", "protocol": "chat", "replicas": 1, "addresses": [f"127.0.0.1:{engine_port}"]}
    (replica,) = yaml.safe_load(modelengine("ps", "-o", "yaml", host=system.host).stdout)
    assert replica["port"] == engine_port
    assert replica["load"]["running"] == 0
    assert replica["parameters"] > 1_000_000
    assert modelengine("ls", "-o", "name", host=system.host).stdout == "demo\n"


def test_wait_returns_at_once_for_what_is_there_and_gives_4_for_what_is_not(system: System, engine_port: int) -> None:
    there = modelengine("--host", system.host, "wait", "demo")
    assert there.returncode == 0
    assert there.stdout.splitlines()[1].split() == ["demo", "127.0.0.1", str(engine_port), "chat"]
    missing = modelengine("wait", "nobody", "--timeout", "0.3", host=system.host)
    assert (missing.returncode, missing.stdout) == (4, "")
    assert missing.stderr.startswith("error: 'nobody' is not available after 0.3 s")


def test_an_answer_is_the_same_streamed_and_whole(system: System) -> None:
    arguments = ["run", "demo", "hello", "-o", "temperature=0", "-o", "max_new_tokens=12"]
    streamed = modelengine(*arguments, host=system.host)
    assert (streamed.returncode, streamed.stderr) == (0, "")
    assert streamed.stdout.strip()
    assert modelengine(*arguments, "--no-stream", host=system.host).stdout == streamed.stdout


def test_doctor_finds_this_machine_fit(system: System) -> None:
    done = modelengine("doctor", "-o", "json", host=system.host)
    found = {check["name"]: check for check in json.loads(done.stdout)}
    assert done.returncode == 0, done.stdout
    assert found["torch"]["state"] == "ok"
    assert found["name server"]["found"].endswith("1 names")
    port = system.host.split(":")[1]
    assert found[f"port {port}"]["found"].startswith("a ModelEngine name server (version ")
    assert "hub" not in found


def test_doctor_online_says_how_to_reach_a_hub_that_is_away() -> None:
    done = modelengine("doctor", "--online", "-o", "json", host="127.0.0.1:1", HF_ENDPOINT="http://127.0.0.1:1")
    hub = json.loads(done.stdout)[-1]
    assert done.returncode == 1
    assert (hub["name"], hub["state"]) == ("hub", "FAIL")
    assert "HF_ENDPOINT" in hub["fix"]


def test_pull_prints_the_folder_and_refuses_what_is_no_model() -> None:
    good = modelengine("pull", "demo")
    assert good.returncode == 0
    assert good.stdout.strip().endswith("demo_model")
    bad = modelengine("pull", "s3://bucket/model")
    assert (bad.returncode, bad.stdout) == (1, "")
    assert bad.stderr.startswith("error: model 's3://bucket/model': unknown kind of source")
