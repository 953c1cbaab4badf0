"""What `up` decides, without a process: events and times in, actions out."""

from __future__ import annotations

import signal

import pytest

from modelengine.cli.supervision import (
    CRASHES_IN_A_ROW,
    LONGEST_DELAY_S,
    NAME_SERVER,
    STABLE_S,
    STOP_SLACK_S,
    Action,
    Show,
    Signal,
    Start,
    Supervision,
    Tell,
)
from modelengine.protocol import ServerInfo

ENGINE = "engine demo"
DOOR_PID, ENGINE_PID = 100, 200
SERVICE = ServerInfo("demo", "127.0.0.1", 59296)
DOOR_UP = Show("ModelEngineNameServer: in memory, running! port: 9527")
ENGINE_UP = Show("ModelEngineInferenceEngine: demo is running! port: 59296")
DOOR_CLEAN = Show("ModelEngineNameServer clean_up!")
ENGINE_CLEAN = Show("ModelEngineInferenceEngine clean_up!")


def loading(titles: tuple[str, ...] = (ENGINE,), hint: str = "") -> Supervision:
    """The name server listens and the engines are loading."""
    plan = Supervision(titles, grace_s=30, hint=hint)
    plan.begin()
    plan.started(NAME_SERVER, DOOR_PID)
    plan.listening(9527, 0)
    for i, title in enumerate(titles):
        plan.started(title, ENGINE_PID + i)
    return plan


def running() -> Supervision:
    plan = loading()
    plan.listed({ENGINE_PID: SERVICE}, 5)
    return plan


def crash_and_restart(plan: Supervision, now: float) -> list[Action]:
    """The engine is killed at `now` and, where that is decided, started again."""
    actions = plan.exited(ENGINE, -9, now)
    if plan.next_due is not None:
        plan.tick(plan.next_due)
        plan.started(ENGINE, ENGINE_PID)
    return actions


def test_the_engine_starts_only_when_the_name_server_listens() -> None:
    plan = Supervision([ENGINE], grace_s=30)
    assert plan.begin() == [Start(NAME_SERVER)]
    plan.started(NAME_SERVER, DOOR_PID)
    assert plan.listening(9527, 1) == [DOOR_UP, Start(ENGINE)]


def test_an_engine_is_shown_once_and_only_when_it_is_listed() -> None:
    plan = loading()
    assert plan.listed({}, 1) == []
    assert plan.listed({ENGINE_PID: SERVICE}, 2) == [ENGINE_UP]
    assert plan.listed({ENGINE_PID: SERVICE}, 3) == []


def test_engines_that_others_have_registered_are_not_shown() -> None:
    assert loading().listed({4711: SERVICE}, 1) == []


def test_the_hint_comes_once_with_what_is_known_by_then() -> None:
    plan = loading((ENGINE, "engine demo #2"), hint="ask {name} at {port}")
    assert plan.listed({ENGINE_PID: SERVICE}, 1) == [ENGINE_UP, Tell("ask demo at 9527")]
    assert plan.listed({ENGINE_PID: SERVICE, ENGINE_PID + 1: SERVICE}, 2) == [ENGINE_UP]


def test_without_engines_the_hint_follows_the_name_server() -> None:
    plan = Supervision([], grace_s=30, hint="try")
    plan.begin()
    plan.started(NAME_SERVER, DOOR_PID)
    assert plan.listening(9527, 1) == [DOOR_UP, Tell("try")]


def test_engines_are_asked_first_and_the_name_server_when_none_is_listed_any_more() -> None:
    plan = running()
    assert plan.asked_to_stop(10) == [Signal(ENGINE, signal.SIGTERM)]
    assert plan.listed({}, 11) == [Signal(NAME_SERVER, signal.SIGTERM)]
    assert plan.listed({}, 12) == []


def test_a_name_server_that_lists_a_dead_engine_is_asked_all_the_same() -> None:
    plan = running()
    plan.asked_to_stop(10)
    assert plan.exited(ENGINE, 0, 11) == [Signal(NAME_SERVER, signal.SIGTERM)]


def test_both_are_asked_at_once_while_the_engine_is_loading() -> None:
    assert loading().asked_to_stop(1) == [Signal(ENGINE, signal.SIGTERM), Signal(NAME_SERVER, signal.SIGTERM)]


@pytest.mark.parametrize("first", [NAME_SERVER, ENGINE])
def test_the_name_servers_clean_up_line_comes_first_whoever_is_gone_first(first: str) -> None:
    plan = running()
    plan.asked_to_stop(10)
    plan.listed({}, 11)
    second = ENGINE if first == NAME_SERVER else NAME_SERVER
    lines = [*plan.exited(first, 0, 12), *plan.exited(second, 0, 13)]
    assert lines == [DOOR_CLEAN, ENGINE_CLEAN]
    assert plan.is_over
    assert plan.exit_code == 0


def test_a_second_ctrl_c_kills_whatever_is_left() -> None:
    plan = running()
    plan.asked_to_stop(10)
    plan.listed({}, 11)
    plan.exited(NAME_SERVER, 0, 12)
    assert plan.asked_to_stop(13) == [Signal(ENGINE, signal.SIGKILL)]


def test_a_child_that_does_not_stop_is_killed_after_its_grace() -> None:
    plan = running()
    plan.asked_to_stop(10)
    deadline = 10 + 30 + STOP_SLACK_S
    assert plan.next_due == deadline
    assert plan.tick(deadline - 0.1) == []
    assert plan.tick(deadline)[1:] == [Signal(ENGINE, signal.SIGKILL)]


def test_an_engine_that_fails_at_its_start_ends_everything_with_1() -> None:
    plan = loading()
    assert plan.exited(ENGINE, 1, 3) == [
        Tell(f"engine demo (pid {ENGINE_PID}) ended with exit code 1 at its start"),
        Signal(NAME_SERVER, signal.SIGTERM),
    ]
    assert plan.exited(NAME_SERVER, 0, 4) == [DOOR_CLEAN]
    assert plan.is_over
    assert plan.exit_code == 1


def test_a_name_server_that_cannot_take_its_port_ends_everything_before_an_engine_starts() -> None:
    plan = Supervision([ENGINE], grace_s=30)
    plan.begin()
    plan.started(NAME_SERVER, DOOR_PID)
    plan.exited(NAME_SERVER, 1, 1)
    assert plan.is_over
    assert plan.exit_code == 1


def test_a_crash_is_told_and_the_engine_starts_again_after_its_delay() -> None:
    plan = running()
    assert plan.exited(ENGINE, -9, 10) == [
        Tell(f"engine demo (pid {ENGINE_PID}) ended with signal 9; restarting in 1 s")
    ]
    assert plan.tick(10.9) == []
    assert plan.tick(11) == [Start(ENGINE)]
    plan.started(ENGINE, 201)
    assert plan.listed({201: SERVICE}, 15) == [ENGINE_UP]


def test_an_engine_killed_while_it_first_loads_is_started_again() -> None:
    plan = loading()
    plan.exited(ENGINE, -9, 1)
    assert plan.tick(2) == [Start(ENGINE)]


def test_a_crashed_name_server_is_started_again_and_the_engines_stay() -> None:
    plan = running()
    plan.exited(NAME_SERVER, -6, 10)
    assert plan.tick(11) == [Start(NAME_SERVER)]
    plan.started(NAME_SERVER, 101)
    assert plan.listening(9527, 12) == [DOOR_UP]


def test_the_delay_doubles_up_to_its_limit_while_crashes_follow_each_other() -> None:
    plan, delays, now = running(), [], 10.0
    for _ in range(7):
        plan.exited(ENGINE, -9, now)
        assert plan.next_due is not None
        delays.append(plan.next_due - now)
        now = plan.next_due
        plan.tick(now)
        plan.started(ENGINE, ENGINE_PID)
        plan.listed({ENGINE_PID: SERVICE}, now)
    assert delays == [1, 2, 4, 8, 16, LONGEST_DELAY_S, LONGEST_DELAY_S]


def test_an_engine_that_was_stable_is_restarted_soon_again() -> None:
    plan = running()
    crash_and_restart(plan, 10)
    plan.listed({ENGINE_PID: SERVICE}, 20)
    plan.exited(ENGINE, -9, 20 + STABLE_S)
    assert plan.next_due == 20 + STABLE_S + 1


def test_crashes_in_a_row_without_having_been_ready_end_everything() -> None:
    plan = running()
    crash_and_restart(plan, 10)
    for i in range(CRASHES_IN_A_ROW - 1):
        crash_and_restart(plan, 100 * (i + 1))
        assert not plan.is_stopping
    actions = crash_and_restart(plan, 1000)
    assert actions[-1] == Signal(NAME_SERVER, signal.SIGTERM)
    assert "given up after 5 crashes in a row" in str(actions[0])
    assert plan.exit_code == 1


def test_being_ready_in_between_forgives_the_crashes_before() -> None:
    plan = running()
    for i in range(3 * CRASHES_IN_A_ROW):
        crash_and_restart(plan, 10 * i)
        plan.listed({ENGINE_PID: SERVICE}, 10 * i + 5)
    assert not plan.is_stopping


def test_an_engine_waiting_for_its_restart_is_not_started_after_ctrl_c() -> None:
    plan = running()
    plan.exited(ENGINE, -9, 10)
    assert plan.asked_to_stop(10.5) == [Signal(NAME_SERVER, signal.SIGTERM)]
    assert plan.tick(11) == []
    plan.exited(NAME_SERVER, 0, 12)
    assert plan.is_over
