"""What the benchmarks on a cluster decide and count; nothing here measures anything."""

from __future__ import annotations

import math

import pytest
from bench.cluster import calls, fleet, kills, options, watching
from bench.cluster.fleet import Moment
from bench.cluster.kills import Call
from bench.cluster.watching import Listed, Watching
from bench.processes import BenchFailed

from cluster.harness import audit
from cluster.harness.audit import READS, WRITES


def call(verb: str, resource: str, code: int = 200, second: int = 0) -> audit.Call:
    return audit.Call("operator", "", verb, resource, "ns", "name", code, f"2026-01-01T00:00:{second:02}.500000Z")


CALLS = [
    call("update", "leases", second=9),
    call("get", "leases", second=8),
    call("patch", "deployments", second=1),
    call("patch", "modelengines/status", second=2),
    call("patch", "modelengines/status", 409, second=3),
    call("get", "deployments", 404, second=4),
]


def test_calls_are_counted_without_the_lease() -> None:
    assert (calls.writes(CALLS), calls.reads(CALLS), calls.of_the_lease(CALLS), calls.refused(CALLS)) == (3, 1, 2, 1)


def test_calls_by_kind_are_per_modelengine_writes_first() -> None:
    found = calls.by_kind(CALLS, 2)
    assert list(found) == [
        "patch modelengines/status",
        "patch deployments",
        "update leases",
        "get deployments",
        "get leases",
    ]
    assert found["patch modelengines/status"] == {"calls": 1.0}


def test_the_last_call_is_no_lease() -> None:
    first = calls.moment("2026-01-01T00:00:00.000000Z")
    assert calls.last_at(CALLS, WRITES) == first + 3.5
    assert calls.last_at(CALLS, READS | WRITES) == first + 4.5
    assert calls.last_at(CALLS[:2], READS | WRITES) is None


def test_only_processes_that_are_still_the_same_have_used_something() -> None:
    before = Moment(0, 0, 0, {"etcd": 1.0, "operator": 5.0})
    after = Moment(0, 0, 0, {"etcd": 3.0, "operator": 0.5})
    assert fleet.used(before, after, "etcd") == 2.0
    assert math.isnan(fleet.used(before, after, "operator"))


def test_a_registry_lists_pods() -> None:
    value = '{"services":[{"pod":"a"},{"pod":"b"}]}'
    registry = {"metadata": {"namespace": "ns"}, "data": {"chat.x": value}}
    assert watching.listed(registry) == Listed("ns", frozenset("ab"))
    assert watching.listed({"metadata": {"namespace": "ns"}}).pods == frozenset()


def test_what_is_watched_is_waited_for_and_what_never_comes_is_said() -> None:
    seen = Watching(lambda obj: str(obj["x"]))
    for kind, value in (("ADDED", 1), ("BOOKMARK", 2), ("MODIFIED", 3)):
        seen.note({"type": kind, "object": {"x": value}})
    assert seen.count == 2
    one = seen.first(lambda told: told.state == "1", 1, "one")
    assert one < seen.first(lambda told: told.state == "3", 1, "three")
    with pytest.raises(BenchFailed, match="two"):
        seen.first(lambda told: told.state == "2", 0.01, "two")
    with pytest.raises(BenchFailed, match="another one"):
        seen.first(lambda told: told.state == "1", 0.01, "another one", start=1)


def test_calls_at_a_kill_are_those_under_way_and_after() -> None:
    made = [Call(0, 9, ""), Call(9, 11, "broken"), Call(10.5, 11.5, ""), Call(11, 11.2, "")]
    found = kills.of_calls(made, began=10)
    assert (found["calls"], found["failed"]) == (3, 1)
    assert found["slowest ms"] == pytest.approx(2000)
    assert found["next answer ms"] == pytest.approx(1200)
    with pytest.raises(BenchFailed, match="broken"):
        kills.of_calls(made[:2], began=10)


def test_no_namespace_stays_empty() -> None:
    assert options.cases((1, 100), (1, 10)) == [(1, 1), (100, 1), (100, 10)]


def test_options() -> None:
    known = ("one", "two")
    assert options.parse([], known) == options.Options(known)
    quick = options.parse(["--quick", "--sizes", "5", "two"], known)
    assert (quick.names, quick.rounds, quick.sizes) == (["two"], 1, (5,))
    assert options.parse(["--rounds", "7", "--steady", "9"], known).steady_s == 9


@pytest.mark.parametrize("argv", [["three"], ["--sizes", "0"], ["--sizes", "1,x"], ["--rounds", "0"]])
def test_bad_options_end_the_command(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        options.parse(argv, ("one", "two"))
    assert "error" in capsys.readouterr().err
