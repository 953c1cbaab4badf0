"""Why a ModelEngine is (not) ready: each check alone, their order, and the words that users get."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
from hypothesis import given as given_any
from hypothesis import strategies as st

import samples
from modelengine.protocol import CHAT
from modelengine_kube import resources
from modelengine_operator import findings, podstate, spec
from modelengine_operator.findings import Finding
from modelengine_operator.observed import Observed, Progress
from modelengine_operator.podstate import Trouble
from modelengine_operator.settings import Settings
from modelengine_operator.status import MAX_REASON
from samples import SETTINGS, observed, state

REASONS = {value for name, value in vars(findings).items() if name.isupper() and isinstance(value, str)}
# But for the protocol's name, which it imports.
TROUBLES = {value for name, value in vars(podstate).items() if name.isupper() and isinstance(value, str)} - {CHAT}


def found(world: Observed, settings: Settings = SETTINGS) -> Finding:
    return findings.first(world, settings)


def failure(message: str, status: str = "True") -> dict[str, Any]:
    refused = {"type": "ReplicaFailure", "status": status, "reason": "FailedCreate", "message": message}
    return samples.deployment_status(0, conditions=[{"type": "Available", "status": "False"}, refused])


def owned_by(uid: str, name: str = "qwen", **other: Any) -> list[dict[str, Any]]:
    reference = {"apiVersion": "modelengine.dev/v1alpha1", "kind": "ModelEngine", "name": name, "uid": uid}
    return [reference | {"controller": True, "blockOwnerDeletion": False} | other]


def with_owners(world: Observed, owners: list[dict[str, Any]]) -> Observed:
    """Its Service belongs to these."""
    service = dict(world.children[resources.SERVICES])
    service["metadata"] = service["metadata"] | {"ownerReferences": owners}
    return dataclasses.replace(world, children={**world.children, resources.SERVICES: service})


def test_all_is_well_with_one_replica_and_with_several() -> None:
    assert found(observed([state()])) == Finding(findings.SERVING, "1 replica answers for 'qwen'", is_ready=True)
    two = observed([state("a"), state("b")], {"replicas": 2, "model": {"source": "demo://", "name": "Qwen/Qwen3"}})
    assert found(two) == Finding(findings.SERVING, "2 replicas answer for 'Qwen/Qwen3'", is_ready=True)


def test_a_spec_that_can_not_be_read_says_which_field() -> None:
    world = dataclasses.replace(observed(), engine=None, invalid="spec.replicas: must be less than 1000")
    assert found(world) == Finding(findings.INVALID_SPEC, "spec.replicas: must be less than 1000")


def test_one_that_is_being_deleted_says_so() -> None:
    world = observed([state()], metadata={"deletionTimestamp": "2026-11-24T12:00:00Z"})
    assert found(world).reason == findings.DELETING


def test_a_name_that_an_older_one_has_is_a_conflict() -> None:
    assert found(observed(name_owner="elder")) == Finding(
        findings.NAME_CONFLICT,
        "ModelEngine 'elder' is older and serves 'qwen' in this namespace; set another spec.model.name here, or delete "
        "that one",
        "elder",
    )


def test_an_image_that_is_not_allowed_is_refused_and_says_which_are() -> None:
    foreign = {"runtime": {"image": "elsewhere.example/engine:1"}}
    assert found(observed(given=foreign)) == Finding(
        findings.IMAGE_NOT_ALLOWED,
        "spec.runtime.image 'elsewhere.example/engine:1' is none of the operator's allowed images "
        "(registry.example/engine:1, registry.example/other/*); "
        "remove it, or add it to engine.allowedImages of the chart",
        "elsewhere.example/engine:1",
    )


@pytest.mark.parametrize("image", ["registry.example/engine:1", "registry.example/other/engine:2"])
def test_an_image_that_is_allowed_is_taken(image: str) -> None:
    assert found(observed([state()], {"runtime": {"image": image}})).is_ready


@pytest.mark.parametrize(
    "owners",
    [
        [],
        owned_by("u-x", "other"),
        owned_by("u-x", kind="Deployment"),
        owned_by("u-x", controller=False),
        owned_by("u-x", apiVersion="elsewhere.example/v1"),
    ],
    ids=["nobody", "another", "another kind", "no controller", "another group"],
)
def test_an_object_of_somebody_else_is_left_alone_and_named(owners: list[dict[str, Any]]) -> None:
    assert found(with_owners(observed([state()]), owners)) == Finding(
        findings.OBJECT_CONFLICT,
        "there is a Service 'qwen-engine' that does not belong to this ModelEngine, and it is left alone; delete or "
        "rename it, or give the ModelEngine another name",
        "Service qwen-engine",
    )


def test_an_object_of_the_deleted_predecessor_is_waited_for() -> None:
    assert found(with_owners(observed([state()]), owned_by("u-old"))) == Finding(
        findings.REPLACING, "waits until the Service of its deleted predecessor is gone"
    )


def test_a_second_owner_does_not_matter() -> None:
    owners = [*owned_by("u-x", "other", controller=False), *owned_by("uid-qwen")]
    assert found(with_owners(observed([state()]), owners)).is_ready


def test_what_the_api_server_refuses_is_told_in_its_words() -> None:
    world = observed(refusal="Deployment is invalid: spec.template: no")
    assert found(world) == Finding(findings.WRITE_REFUSED, "Deployment is invalid: spec.template: no")


def test_an_object_that_a_quota_refuses_names_the_quota() -> None:
    refusal = 'services "qwen-engine" is forbidden: exceeded quota: objects, requested: services=1, used: services=5'
    assert found(observed(refusal=refusal)) == Finding(findings.QUOTA_EXCEEDED, refusal, "objects")


QUOTA = (
    'pods "qwen-engine-1" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=1, used: 4, limited: 4'
)


@pytest.mark.parametrize(
    ("message", "reason", "about"),
    [
        (QUOTA, findings.QUOTA_EXCEEDED, "gpus"),
        ('pods "q" is forbidden: failed quota: mem: must specify limits.memory for: engine', "QuotaExceeded", "mem"),
        ('pods "q" is forbidden: violates PodSecurity "restricted:latest": x != y', findings.POD_SECURITY, ""),
        ('pods "q" is forbidden: maximum memory usage per Container is 1Gi', findings.PODS_REFUSED, ""),
        ("", findings.PODS_REFUSED, ""),
    ],
)
def test_why_pods_are_refused_is_told(message: str, reason: str, about: str) -> None:
    told = found(observed(status=None, given={"replicas": 1}, children=children_with(failure(message))))
    assert (told.reason, told.about) == (reason, about)
    assert told.message.startswith(message)
    assert told.message


def children_with(status: dict[str, Any]) -> dict[Any, Any]:
    return samples.children(samples.engine(), status)


def test_a_full_quota_has_advice() -> None:
    told = found(observed(children=children_with(failure(QUOTA))))
    advice = "ask for less, have the quota raised, or set spec.rollout: InPlace if it is full only during a change"
    assert told.message == f"{QUOTA}; {advice}"


def test_a_refusal_that_is_over_is_no_trouble() -> None:
    status = failure(QUOTA, "False") | {"replicas": 1, "updatedReplicas": 1}
    assert found(observed([state()], children=children_with(status))).is_ready


def test_a_cluster_that_drops_image_volumes_says_so_for_models_in_images_alone() -> None:
    image = {"model": {"source": "oci://registry.example/model:1"}}
    assert found(observed([state()], image)).is_ready
    dropped = children_with(samples.deployment_status(1))
    told = found(observed([state()], image, children=dropped))
    assert (told.reason, told.is_stalled) == (findings.NO_IMAGE_VOLUMES, True)
    assert "use hf:// or pvc://" in told.message
    assert found(observed([state()], children=dropped)).is_ready
    assert found(observed([state()], image, children={})).reason == findings.STARTING


def test_none_wanted_and_none_there_is_ready() -> None:
    none = {"replicas": 0}
    assert found(observed((), none)) == Finding(
        findings.SCALED_TO_ZERO, "no replicas are wanted, and there are none", is_ready=True
    )
    leaving = state(is_ready=False, is_leaving=True)
    assert found(observed([leaving], none)).reason == findings.SCALED_TO_ZERO
    assert found(observed([state()], none)) == Finding(
        findings.SCALING_DOWN, "1 of 0 replicas answer; too many, and about to stop: 1"
    )


def test_a_pod_in_trouble_gives_the_reason() -> None:
    lacking = Trouble(podstate.UNSCHEDULABLE, "no node has enough", "nvidia.com/gpu, memory")
    told = found(observed([state(is_ready=False, trouble=lacking)]))
    assert told == Finding(podstate.UNSCHEDULABLE, "no node has enough", "nvidia.com/gpu, memory")
    assert told.column == "Unschedulable: nvidia.com/gpu, memory"


def test_every_trouble_has_its_place_in_the_order() -> None:
    assert set(findings.WORST_FIRST) == TROUBLES
    assert len(findings.WORST_FIRST) == len(TROUBLES)


@given_any(st.lists(st.sampled_from(findings.WORST_FIRST), min_size=1, max_size=5))
def test_of_several_troubles_the_worst_is_told(reasons: list[str]) -> None:
    pods = [state(f"{i}", is_ready=False, trouble=Trouble(reason, "why")) for i, reason in enumerate(reasons)]
    assert found(observed(pods, {"replicas": len(pods)})).reason == min(reasons, key=findings.WORST_FIRST.index)


def test_a_pod_that_has_ended_for_good_counts_until_another_takes_its_place() -> None:
    evicted = state("old", is_ready=False, is_leaving=True, trouble=Trouble(podstate.EVICTED, "low on memory"))
    assert found(observed([evicted])).reason == podstate.EVICTED
    assert found(observed([evicted, state("new")])).is_ready
    waiting = state("new", is_ready=False, is_starting=False, node="")
    assert found(observed([evicted, waiting])).reason == findings.SCHEDULING
    lacking = Trouble(podstate.UNSCHEDULABLE, "no node")
    assert found(observed([evicted, state("new", is_ready=False, trouble=lacking)])).reason == podstate.UNSCHEDULABLE


STARTING = state("b", is_ready=False)
UNPLACED = state("b", is_ready=False, is_starting=False, node="")


@pytest.mark.parametrize(
    ("pods", "progress", "reason", "message"),
    [
        ([], None, findings.SCHEDULING, "0 of 2 replicas answer; pods that are not there yet: 2"),
        ([state("a")], None, findings.SCHEDULING, "1 of 2 replicas answer; pods that are not there yet: 1"),
        ([state("a"), UNPLACED], None, findings.SCHEDULING, "1 of 2 replicas answer; pods that wait for a node: 1"),
        (
            [state("a"), STARTING],
            None,
            findings.STARTING,
            "1 of 2 replicas answer; pods that get their volumes, images and containers: 1",
        ),
        (
            [state("a"), STARTING],
            Progress("warming up"),
            "WarmingUp",
            "1 of 2 replicas answer; a replica is warming up",
        ),
        (
            [state("a"), STARTING],
            Progress("ready"),
            findings.STARTING,
            "1 of 2 replicas answer; a replica has loaded the model and is about to answer",
        ),
        ([state("a"), state("c"), STARTING], None, findings.STARTING, None),
        (
            [state("a"), state("b"), state("c")],
            None,
            findings.SCALING_DOWN,
            "3 of 2 replicas answer; too many, and about to stop: 1",
        ),
    ],
)
def test_what_is_still_missing_is_told(
    pods: list[podstate.PodState], progress: Progress | None, reason: str, message: str | None
) -> None:
    told = found(observed(pods, {"replicas": 2}, progress=progress))
    assert (told.reason, told.is_ready) == (reason, False)
    assert message in (told.message, None)


def test_a_download_tells_how_far_it_is() -> None:
    half = Progress("downloading", 3_100_000_000, 8_200_000_000)
    assert found(observed([STARTING], progress=half)) == Finding(
        "Downloading", "0 of 1 replicas answer; a replica is downloading, 3.10 of 8.20 GB", "37 %"
    )


@pytest.mark.parametrize(
    ("progress", "column"),
    [
        (Progress("downloading", 9, 8), "Downloading: 100 %"),
        (Progress("downloading", 0, 8), "Downloading: 0 %"),
        (Progress("downloading", 5, 0), "Downloading"),
        (Progress("downloading", None, 8), "Downloading"),
        (Progress("downloading", 5, None), "Downloading"),
        (Progress("waiting for another download"), "WaitingForAnotherDownload"),
        (Progress("加载"), findings.STARTING),
    ],
)
def test_whatever_a_pod_says_of_its_progress_becomes_a_reason(progress: Progress, column: str) -> None:
    assert found(observed([STARTING], progress=progress)).column == column


def test_what_runs_the_old_spec_is_rolled_out_first() -> None:
    def told(**status: Any) -> Finding:
        whole = samples.deployment_status(2) | status
        return found(observed([state("a"), state("b")], {"replicas": 2}, children=children_of_two(whole)))

    assert told().is_ready
    assert told(updatedReplicas=1) == Finding(findings.ROLLING_OUT, "1 of 2 replicas run the newest spec")
    assert told(observedGeneration=0) == Finding(findings.ROLLING_OUT, "0 of 2 replicas run the newest spec")
    assert told(replicas=3).reason == findings.ROLLING_OUT
    new = found(observed([state()], children=children_with({})))
    assert new == Finding(findings.ROLLING_OUT, "0 of 1 replicas run the newest spec")


def children_of_two(status: dict[str, Any]) -> dict[Any, Any]:
    return samples.children(samples.engine("qwen", {"replicas": 2}), status)


def test_without_its_deployment_it_has_not_started() -> None:
    assert found(observed([state()], children={})) == Finding(findings.STARTING, "its Deployment is not there yet")


def test_a_replica_that_callers_do_not_know_is_registered_first() -> None:
    pods = [state("a"), state("b")]
    world = observed(pods, {"replicas": 2}, listed=samples.listed(pods[0]))
    assert found(world) == Finding(findings.REGISTERING, "1 of 2 ready replicas are in the registry")


def test_a_full_registry_says_so() -> None:
    told = found(observed([state()], is_left_out=True))
    assert (told.reason, told.is_ready, told.is_stalled) == (findings.REGISTRY_FULL, False, True)


FOREIGN = {"runtime": {"image": "elsewhere.example/engine:1"}}
STUCK = Trouble(podstate.CRASH_LOOP, "exit code 1")
# Each world has all the trouble of those after it, too.
WORLD: dict[str, Any] = {
    "name_owner": "elder",
    "children": {},
    "refusal": "no",
    "pods": [state(is_ready=False, trouble=STUCK)],
    "is_left_out": True,
}


def test_the_first_check_that_finds_something_is_the_reason() -> None:
    deleting = {"deletionTimestamp": "2026-11-24T12:00:00Z"}
    worlds: list[Observed] = []
    world = observed(given=FOREIGN, metadata=deleting, **{k: v for k, v in WORLD.items() if k != "pods"})
    world = dataclasses.replace(world, pods=WORLD["pods"], listed=[])
    service = {"kind": "Service", "metadata": {"name": "qwen-engine"}}
    refused = children_with(failure(QUOTA))
    world = dataclasses.replace(world, children={**refused, resources.SERVICES: service})
    worlds.append(dataclasses.replace(world, engine=None))
    worlds.append(world)
    worlds.append(dataclasses.replace(worlds[-1], engine=samples.engine("qwen", FOREIGN)))
    worlds.append(dataclasses.replace(worlds[-1], name_owner=None))
    worlds.append(dataclasses.replace(worlds[-1], engine=samples.engine()))
    worlds.append(dataclasses.replace(worlds[-1], children=refused))
    worlds.append(dataclasses.replace(worlds[-1], refusal=""))
    worlds.append(dataclasses.replace(worlds[-1], children=children_with(samples.deployment_status(0))))
    worlds.append(dataclasses.replace(worlds[-1], pods=[UNPLACED]))
    worlds.append(dataclasses.replace(worlds[-1], pods=[state()]))
    worlds.append(dataclasses.replace(worlds[-1], children=children_with(samples.deployment_status(1))))
    worlds.append(dataclasses.replace(worlds[-1], is_left_out=False))
    worlds.append(dataclasses.replace(worlds[-1], listed=samples.listed(state())))
    assert [found(one).reason for one in worlds] == [
        findings.INVALID_SPEC,
        findings.DELETING,
        findings.NAME_CONFLICT,
        findings.IMAGE_NOT_ALLOWED,
        findings.OBJECT_CONFLICT,
        findings.WRITE_REFUSED,
        findings.QUOTA_EXCEEDED,
        podstate.CRASH_LOOP,
        findings.SCHEDULING,
        findings.ROLLING_OUT,
        findings.REGISTRY_FULL,
        findings.REGISTERING,
        findings.SERVING,
    ]


def test_a_reason_is_one_word_that_kubernetes_takes() -> None:
    assert len(REASONS | TROUBLES) > 25
    assert all(re.fullmatch("[A-Z][A-Za-z]+", reason) for reason in REASONS | TROUBLES)
    assert len(REASONS | TROUBLES) == len(REASONS) + len(TROUBLES)


def test_the_column_is_never_too_long() -> None:
    long = Finding(podstate.IMAGE_PULL_FAILED, "", "x" * 512)
    assert len(long.column) == MAX_REASON
    assert long.column.endswith("x…")
    exact = Finding("A", "", "x" * (MAX_REASON - 3))
    assert exact.column == "A: " + "x" * (MAX_REASON - 3)


def test_what_needs_a_person_is_stalled_and_nothing_else() -> None:
    stalled = {reason for reason in REASONS | TROUBLES if Finding(reason, "").is_stalled}
    assert stalled == {
        findings.INVALID_SPEC,
        findings.NAME_CONFLICT,
        findings.IMAGE_NOT_ALLOWED,
        findings.OBJECT_CONFLICT,
        findings.NO_IMAGE_VOLUMES,
        findings.REGISTRY_FULL,
        podstate.INVALID_IMAGE,
    }


def test_messages_have_no_plural_of_one() -> None:
    assert spec.parse(samples.modelengine()).spec.replicas == 1
    worlds = [
        observed(),
        observed([UNPLACED]),
        observed([STARTING]),
        observed([state("a"), state("c")]),
        observed([state()], listed=[]),
    ]
    for world in worlds:
        assert not re.search(r"\b1 (wait|are|pods|more)\b", found(world).message.replace("of 1 ready", ""))
