"""What `doctor` says to what it finds."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from modelengine.cli import checks, diagnosis
from modelengine.cli.checks import State


def test_an_old_python_fails_with_its_fix() -> None:
    assert checks.python((3, 11, 2)).state is State.OK
    old = checks.python((3, 10, 0))
    assert (old.state, old.found) == (State.FAIL, "3.10.0")
    assert "3.11" in old.fix


@pytest.mark.parametrize(
    ("good", "poor"),
    [
        (checks.memory(4 * 2**30), checks.memory(2**30)),
        (checks.cores(2, 8), checks.cores(1, 8)),
        (checks.part("engine", []), checks.part("engine", ["torch"])),
        (checks.disk("/x", 20 * 2**30), checks.disk("/x", 2**30)),
        (checks.name_server("x", {"version": "1", "names": 2}, ""), checks.name_server("x", None, "nobody answers")),
    ],
)
def test_what_is_poor_is_a_warning_with_a_fix_and_what_is_good_needs_none(
    good: checks.Check, poor: checks.Check
) -> None:
    assert (good.state, good.fix) == (State.OK, "")
    assert poor.state is State.WARN
    assert poor.fix


def test_a_port_is_fine_when_it_is_free_or_ours() -> None:
    assert checks.port(9527, None, is_name_server=False).state is State.OK
    assert checks.port(9527, "a ModelEngine name server", is_name_server=True).state is State.OK
    taken = checks.port(9527, "nginx (pid 7)", is_name_server=False)
    assert (taken.state, taken.found) == (State.FAIL, "taken by nginx (pid 7)")


def test_torch_that_crashes_is_a_failure_with_its_last_line() -> None:
    report, failure = diagnosis.probe_engine("raise ImportError('libfoo.so is missing')")
    found = checks.torch(report, failure)
    assert found.state is State.FAIL
    assert "libfoo.so is missing" in found.found


def test_what_the_probe_prints_last_is_its_report() -> None:
    report, _ = diagnosis.probe_engine('print(\'noise\'); print(\'{"torch": "2", "device": "cpu"}\')')
    assert checks.torch(report, "").found == "2 on cpu"


def test_a_foreign_listener_on_the_port_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (found,) = diagnosis.check_port(f"http://127.0.0.1:{port}", is_name_server=False)
    assert found.state is State.FAIL
    assert found.found.startswith("taken by ")


def test_ports_of_other_machines_are_not_judged() -> None:
    assert diagnosis.check_port("http://192.0.2.1:9527", is_name_server=False) == []


def test_a_name_server_that_is_away_is_told() -> None:
    info, failure = diagnosis.ask_name_server("http://127.0.0.1:1")
    assert info is None
    assert "nobody answers" in failure


def test_a_hub_that_is_away_is_told() -> None:
    assert diagnosis.ask_hub("http://127.0.0.1:1") is not None


def test_a_cache_that_does_not_exist_yet_is_measured_where_it_will_be(tmp_path: Path) -> None:
    assert diagnosis.nearest_existing(tmp_path / "a" / "b") == tmp_path
