"""Events: one for each new reason, and none for the same one."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

import samples
from modelengine_operator import findings, podstate, transitions
from modelengine_operator.findings import Finding
from modelengine_operator.transitions import Transitions
from samples import NOW

SERVING = Finding(findings.SERVING, "1 replica answers for 'qwen'", is_ready=True)
LACKING = Finding(podstate.UNSCHEDULABLE, "no node has enough nvidia.com/gpu", "nvidia.com/gpu")


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def told(clock: Clock) -> Transitions:
    return Transitions("operator-1", clock)


def engine(reason: str = "", **metadata: Any) -> dict[str, Any]:
    obj = samples.modelengine(**metadata)
    if reason:
        other = {"type": "Available", "status": "True", "reason": "EndpointsListed"}
        obj["status"] = {"conditions": [other, {"type": "Ready", "status": "False", "reason": reason}]}
    return obj


def test_an_event_says_what_of_whom_and_since_when(told: Transitions) -> None:
    event = told.event(engine("Starting"), LACKING, NOW)
    assert event is not None
    assert event["metadata"].pop("name").startswith("qwen.")
    assert event == {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"namespace": "team"},
        "involvedObject": {
            "apiVersion": "modelengine.dev/v1alpha1",
            "kind": "ModelEngine",
            "namespace": "team",
            "name": "qwen",
            "uid": "uid-qwen",
            "resourceVersion": "70",
        },
        "reason": "Unschedulable",
        "message": "no node has enough nvidia.com/gpu",
        "type": "Warning",
        "source": {"component": "modelengine-operator"},
        "reportingComponent": "modelengine-operator",
        "reportingInstance": "operator-1",
        "firstTimestamp": "2026-11-24T12:00:00Z",
        "lastTimestamp": "2026-11-24T12:00:00Z",
        "count": 1,
    }


def test_the_first_reason_of_all_is_news(told: Transitions) -> None:
    assert told.event(engine(), SERVING, NOW) is not None


def test_the_same_reason_with_other_words_is_none(told: Transitions) -> None:
    assert told.event(engine(podstate.UNSCHEDULABLE), LACKING, NOW) is None


def test_every_event_has_a_name_of_its_own(told: Transitions) -> None:
    events = [told.event(engine(name=f"e{i}", uid=f"u{i}"), SERVING, NOW) for i in range(20)]
    assert len({event["metadata"]["name"] for event in events if event}) == 20


def test_a_reason_that_flaps_is_told_once_a_minute(told: Transitions, clock: Clock) -> None:
    def tell(found: Finding, before: str) -> bool:
        return told.event(engine(before), found, NOW) is not None

    assert tell(LACKING, findings.SERVING)
    assert tell(SERVING, LACKING.reason)
    clock.now_s += transitions.SAME_AGAIN_S - 1
    assert not tell(LACKING, findings.SERVING)
    assert tell(Finding(findings.SCHEDULING, ""), findings.SERVING)
    clock.now_s += 1
    assert tell(LACKING, findings.SERVING)


def test_one_s_flapping_silences_no_other(told: Transitions) -> None:
    assert told.event(engine(), LACKING, NOW)
    assert told.event(engine(uid="u-2"), LACKING, NOW)


def test_what_was_told_long_ago_is_forgotten(told: Transitions, clock: Clock) -> None:
    for i in range(100):
        told.event(engine(uid=f"u{i}"), LACKING, NOW)
    clock.now_s += transitions.SAME_AGAIN_S
    told.event(engine(uid="last"), LACKING, NOW)
    assert len(told._told) == 1


def test_a_long_message_is_cut(told: Transitions) -> None:
    event = told.event(engine(), Finding(findings.WRITE_REFUSED, "m" * 5000), NOW)
    assert event is not None
    assert len(event["message"]) == transitions.MAX_NOTE


def test_what_is_wrong_is_a_warning_and_what_is_on_its_way_is_not() -> None:
    reasons = {value for name, value in vars(findings).items() if name.isupper() and isinstance(value, str)}
    assert reasons - transitions.PROBLEMS == {
        findings.SERVING,
        findings.SCALED_TO_ZERO,
        findings.DELETING,
        findings.REPLACING,
        findings.SCHEDULING,
        findings.STARTING,
        findings.ROLLING_OUT,
        findings.SCALING_DOWN,
        findings.REGISTERING,
    }
    assert set(findings.WORST_FIRST) <= transitions.PROBLEMS
    assert set(findings.STALLED) <= transitions.PROBLEMS


@pytest.mark.parametrize(
    ("found", "kind"), [(SERVING, "Normal"), (LACKING, "Warning"), (Finding("Loading", ""), "Normal")]
)
def test_the_kind_of_an_event_is_the_reason_s(told: Transitions, found: Finding, kind: str) -> None:
    event = told.event(engine(), found, NOW + datetime.timedelta(seconds=1))
    assert event is not None
    assert (event["type"], event["firstTimestamp"]) == (kind, "2026-11-24T12:00:01Z")
