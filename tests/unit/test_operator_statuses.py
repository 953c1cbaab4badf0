"""The status: what kubectl, Helm, Argo and Flux read, and when it is written."""

from __future__ import annotations

import copy
import dataclasses
import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import samples
from modelengine.protocol import ServerInfo
from modelengine.registry_configmap import Service
from modelengine_kube import resources
from modelengine_operator import findings, podstate, statuses
from modelengine_operator.findings import Finding
from modelengine_operator.observed import Observed, Progress
from modelengine_operator.podstate import PodState, Trouble
from modelengine_operator.status import MAX_ENDPOINTS, MAX_MESSAGE, MAX_REASON, Status
from samples import NOW, SETTINGS, observed, state

Object = dict[str, Any]
STAMP = "2026-11-24T12:00:00Z"
LATER = NOW + datetime.timedelta(minutes=5)
FACTS = {"parameters": 596_049_920, "contextLength": 40_960, "dtype": "bfloat16"}


def of(world: Observed, now: datetime.datetime = NOW) -> statuses.Status:
    status = statuses.of(world, findings.first(world, SETTINGS), now)
    Status.model_validate(status)
    return status


def conditions(status: statuses.Status) -> dict[str, str]:
    """type -> `True: Serving`"""
    found = {c["type"]: f"{c['status']}: {c['reason']}" for c in status["conditions"]}
    assert len(found) == len(status["conditions"])
    return found


def written(world: Observed, status: statuses.Status) -> Observed:
    """The world after the status was written."""
    return dataclasses.replace(world, obj={**world.obj, "status": copy.deepcopy(status)})


def test_a_model_that_is_served_is_all_that_one_asks_for() -> None:
    world = observed([state()], {"model": {"source": "demo://", "name": "Qwen/Qwen3"}}, facts=FACTS)
    status = of(world)
    assert {key: value for key, value in status.items() if key != "conditions"} == {
        "observedGeneration": 3,
        "servedName": "Qwen/Qwen3",
        "reason": "Serving",
        "replicas": 1,
        "readyReplicas": 1,
        "ready": "1/1",
        "selector": "app.kubernetes.io/name=modelengine-engine,modelengine.dev/engine=qwen",
        "endpoints": [{"uid": "uid-pod-1", "pod": "pod-1", "host": "10.0.0.1", "port": 8000}],
        "model": FACTS,
    }
    assert status["conditions"][0] == {
        "type": "Ready",
        "status": "True",
        "reason": "Serving",
        "message": "1 replica answers for 'Qwen/Qwen3'",
        "lastTransitionTime": STAMP,
        "observedGeneration": 3,
    }


SERVING = {
    "Ready": "True: Serving",
    "Available": "True: EndpointsListed",
    "Registered": "True: InRegistry",
    "ModelLoaded": "True: Loaded",
    "Reconciling": "False: Settled",
    "Stalled": "False: NotStalled",
}


def all_of(reason: str, **other: str) -> dict[str, str]:
    """Nothing is there yet, for one reason."""
    not_yet = dict.fromkeys(("Ready", "Available", "Registered", "ModelLoaded"), f"False: {reason}")
    return not_yet | {"Reconciling": f"True: {reason}", "Stalled": "False: NotStalled"} | other


STALLED = {"Reconciling": "False: Settled"}
NONE = {"replicas": 0}
DELETING = {"deletionTimestamp": STAMP}


@pytest.mark.parametrize(
    ("world", "expected"),
    [
        (observed([state()]), SERVING),
        (observed([state(is_ready=False)]), all_of("Starting")),
        (
            observed([state("a"), state("b", is_ready=False)], {"replicas": 2}),
            SERVING | {"Ready": "False: Starting", "Reconciling": "True: Starting"},
        ),
        (
            observed((), NONE),
            all_of("ScaledToZero", Ready="True: ScaledToZero", Reconciling="False: Settled"),
        ),
        (observed((), metadata=DELETING), all_of("Deleting")),
        (
            observed(name_owner="elder"),
            all_of("NameConflict", **STALLED, Stalled="True: NameConflict", NameConflict="True: NameConflict"),
        ),
        (
            observed([state(is_ready=False, trouble=Trouble(podstate.CRASH_LOOP, "x"))]),
            all_of("CrashLoop"),
        ),
        (
            observed([state()], {"runtime": {"image": "elsewhere.example/e:1"}}),
            SERVING
            | {"Ready": "False: ImageNotAllowed", "Reconciling": "False: Settled", "Stalled": "True: ImageNotAllowed"},
        ),
        (
            observed([state()], listed=[]),
            SERVING
            | dict.fromkeys(("Ready", "Available", "Registered"), "False: Registering")
            | {"Reconciling": "True: Registering"},
        ),
    ],
    ids=["ready", "starting", "partly", "none wanted", "deleting", "conflict", "in trouble", "stalled", "unlisted"],
)
def test_conditions_are_as_kstatus_reads_them(world: Observed, expected: dict[str, str]) -> None:
    assert conditions(of(world)) == expected


def test_every_condition_is_of_the_generation_that_was_seen() -> None:
    status = of(observed([state()], metadata={"generation": 8}))
    assert status["observedGeneration"] == 8
    assert {c["observedGeneration"] for c in status["conditions"]} == {8}


def test_a_condition_s_time_moves_with_its_status_and_with_nothing_else() -> None:
    world = observed([state(is_ready=False)])
    first = of(world)
    loading = dataclasses.replace(written(world, first), progress=Progress("loading"))
    second = of(loading, LATER)
    assert conditions(second)["Ready"] == "False: Loading"
    assert {c["lastTransitionTime"] for c in second["conditions"]} == {STAMP}
    serving = dataclasses.replace(written(world, second), pods=[state()], listed=samples.listed(state()))
    moved = {c["type"]: c["lastTransitionTime"] for c in of(serving, LATER)["conditions"]}
    assert moved == dict.fromkeys(moved, "2026-11-24T12:05:00Z") | {"Stalled": STAMP}


def test_a_conflict_is_gone_with_its_condition() -> None:
    world = observed([state()], name_owner="elder")
    after = dataclasses.replace(written(world, of(world)), name_owner=None)
    status = of(after)
    assert "NameConflict" not in conditions(status)
    assert statuses.differs(after, status)


def test_a_pod_that_leaves_is_no_replica() -> None:
    pods = [state("a"), state("b", is_ready=False), state("c", is_ready=False, is_leaving=True)]
    status = of(observed(pods, {"replicas": 3}))
    assert (status["replicas"], status["readyReplicas"], status["ready"]) == (2, 1, "1/3")


def test_of_a_spec_that_can_not_be_read_the_rest_is_told() -> None:
    previous = {"servedName": "Qwen/Qwen3", "model": FACTS}
    world = observed([state()], {"replicas": 2}, status=previous)
    status = of(dataclasses.replace(world, engine=None, invalid="spec.model: no"))
    assert (status["servedName"], status["model"], status["ready"]) == ("Qwen/Qwen3", FACTS, "1/2")
    assert (status["readyReplicas"], len(status["endpoints"])) == (1, 1)
    assert conditions(status)["Stalled"] == "True: InvalidSpec"
    assert conditions(status)["Available"] == "True: EndpointsListed"


@pytest.mark.parametrize(("spec", "ready"), [({}, "0/1"), ({"replicas": "many"}, "0/1"), ({"replicas": 7}, "0/7")])
def test_even_replicas_that_are_no_number_have_a_word(spec: Object, ready: str) -> None:
    obj = samples.modelengine() | {"spec": spec}
    assert of(Observed(obj, None, "spec: no"))["ready"] == ready
    del obj["spec"]
    assert of(Observed(obj, None, "spec: no"))["ready"] == "0/1"
    assert of(Observed(obj, None, "spec: no"))["servedName"] == ""


def test_progress_is_told_while_there_is_some() -> None:
    half = observed([state(is_ready=False)], progress=Progress("downloading", 5, 10))
    assert of(half)["loading"] == {"stage": "downloading", "bytes": 5, "total": 10}
    plain = observed([state(is_ready=False)], progress=Progress("loading"))
    assert of(plain)["loading"] == {"stage": "loading"}
    after = dataclasses.replace(written(half, of(half)), progress=None)
    assert "loading" not in of(after)
    assert statuses.differs(after, of(after))


def test_what_an_engine_said_of_its_model_stays_while_none_is_ready() -> None:
    world = observed([state()], facts=FACTS)
    asleep = dataclasses.replace(written(world, of(world)), pods=(), listed=(), facts=None)
    assert of(asleep)["model"] == FACTS
    assert "model" not in of(observed([state()]))
    other = FACTS | {"dtype": "float32"}
    assert of(dataclasses.replace(asleep, facts=other))["model"] == other


def test_what_is_too_long_is_cut_so_that_the_rest_is_taken() -> None:
    many = [Service(ServerInfo("qwen", "10.0.0.1", 8000), f"u-{i}", f"p-{i}") for i in range(MAX_ENDPOINTS + 1)]
    world = observed([state()], listed=[*many, *samples.listed(state())])
    assert len(of(world)["endpoints"]) == MAX_ENDPOINTS
    long = Finding(podstate.IMAGE_PULL_FAILED, "m" * (MAX_MESSAGE + 1), "x" * 512)
    status = statuses.of(world, long, NOW)
    assert len(status["reason"]) == MAX_REASON
    assert {len(c["message"]) for c in status["conditions"]} >= {MAX_MESSAGE}
    Status.model_validate(status)


def test_it_is_written_to_the_very_object_that_was_looked_at() -> None:
    world = observed([state()])
    status = of(world)
    assert statuses.manifest(world, status) == {
        "apiVersion": "modelengine.dev/v1alpha1",
        "kind": "ModelEngine",
        "metadata": {"namespace": "team", "name": "qwen", "uid": "uid-qwen"},
        "status": status,
    }


def test_what_was_just_written_is_not_written_again() -> None:
    world = observed([state()], facts=FACTS)
    status = of(world)
    assert statuses.differs(world, status)
    assert not statuses.differs(written(world, status), of(written(world, status), LATER))


@pytest.mark.parametrize("field", ["reason", "ready", "observedGeneration", "endpoints", "conditions", "model"])
def test_a_status_that_somebody_changed_is_put_back(field: str) -> None:
    world = observed([state()], facts=FACTS)
    status = of(world)
    broken = copy.deepcopy(status)
    del broken[field]
    assert statuses.differs(written(world, broken), status)


def test_one_word_of_a_condition_or_an_endpoint_counts() -> None:
    world = observed([state()])
    for field, key in (("conditions", "message"), ("conditions", "lastTransitionTime"), ("endpoints", "host")):
        broken = copy.deepcopy(of(world))
        broken[field][0][key] = "other"
        assert statuses.differs(written(world, broken), of(world))


def test_each_of_our_conditions_is_put_back() -> None:
    world = observed(name_owner="elder")
    status = of(world)
    assert len(status["conditions"]) == 7
    for i in range(7):
        broken = copy.deepcopy(status)
        del broken["conditions"][i]
        assert statuses.differs(written(world, broken), status)
        assert statuses.differs(written(world, status), broken), "one that is too many goes"


def test_a_condition_of_somebody_else_is_not_ours_to_judge() -> None:
    world = observed([state()])
    status = of(world)
    more = copy.deepcopy(status)
    more["conditions"].insert(0, {"type": "Tested", "status": "True", "reason": "A", "lastTransitionTime": STAMP})
    assert not statuses.differs(written(world, more), of(written(world, more), LATER))


def test_the_order_in_which_the_server_keeps_lists_does_not_matter() -> None:
    world = observed([state("a"), state("b", ip="10.0.0.2")], {"replicas": 2})
    status = of(world)
    turned = status | {key: status[key][::-1] for key in ("conditions", "endpoints")}
    assert not statuses.differs(written(world, turned), status)


TEXT = st.text(max_size=30)
TROUBLES = st.builds(Trouble, st.sampled_from(findings.WORST_FIRST), st.text(max_size=5000), st.text(max_size=600))


@st.composite
def pods(draw: st.DrawFn, name: str = "") -> PodState:
    is_ready = draw(st.booleans())
    return state(
        name or draw(st.uuids().map(str)),
        is_ready=is_ready,
        is_leaving=not is_ready and draw(st.booleans()),
        trouble=None if is_ready else draw(st.none() | TROUBLES),
        node=draw(st.sampled_from(["", "node-1"])),
    )


COUNTS = st.none() | st.integers(0, 2**53)
DEPLOYMENTS = st.none() | st.builds(
    samples.deployment_status,
    st.integers(0, 3),
    st.integers(0, 3),
    st.just(())
    | st.builds(lambda text: [{"type": "ReplicaFailure", "status": "True", "message": text}], st.text(max_size=5000)),
)


@st.composite
def worlds(draw: st.DrawFn) -> Observed:
    """Anything that may be known of one ModelEngine."""
    given_ = {"replicas": draw(st.integers(0, 3)), "model": {"source": "demo://"}}
    if draw(st.booleans()):
        given_["model"]["name"] = draw(st.text("abc/汉-", min_size=1, max_size=256))
    if draw(st.booleans()):
        given_["model"]["source"] = "oci://registry.example/model:1"
    if draw(st.booleans()):
        given_["runtime"] = {"image": draw(st.sampled_from(["a" * 512, SETTINGS.engine_image]))}
    there = draw(st.lists(pods(), max_size=3, unique_by=lambda pod: pod.uid))
    world = observed(
        there,
        given_,
        metadata=draw(st.sampled_from([{}, DELETING])),
        refusal=draw(st.just("") | st.text(max_size=5000)),
        name_owner=draw(st.none() | st.just("elder")),
        is_left_out=draw(st.booleans()),
        progress=draw(st.none() | st.builds(Progress, st.text(min_size=1, max_size=64), COUNTS, COUNTS)),
        facts=draw(st.none() | st.just(FACTS)),
    )
    status = draw(DEPLOYMENTS)
    children = {} if status is None else samples.children(samples.engine("qwen", given_), status)
    if draw(st.booleans()) and children:
        children[resources.SERVICES] = {"metadata": {"name": "qwen-engine"}}
    listed = draw(st.sampled_from([list(world.listed), list(world.listed)[:1]]))
    world = dataclasses.replace(world, children=children, listed=listed)
    return dataclasses.replace(world, engine=None, invalid=draw(TEXT)) if draw(st.booleans()) else world


@given(worlds(), worlds())
def test_whatever_is_known_the_status_is_one_that_the_server_takes_and_comes_to_rest(
    world: Observed, before: Observed
) -> None:
    world = written(world, of(before))
    status = of(world, LATER)
    told = conditions(status)
    assert told["Ready"].startswith("True") == (findings.first(world, SETTINGS).is_ready)
    assert sum(told[kind].startswith("True") for kind in ("Ready", "Reconciling", "Stalled")) == 1
    assert all(c["reason"] for c in status["conditions"])
    after = written(world, status)
    assert not statuses.differs(after, of(after, LATER + datetime.timedelta(minutes=1)))


@given(worlds())
def test_ready_means_that_all_that_are_wanted_are_listed(world: Observed) -> None:
    found = findings.first(world, SETTINGS)
    if not found.is_ready:
        return
    assert world.engine is not None
    wanted = world.engine.spec.replicas
    there = {pod.uid for pod in world.pods if pod.is_ready}
    assert len(there) == wanted
    assert there <= {service.uid for service in world.listed}
    assert of(world)["ready"] == f"{wanted}/{wanted}"
