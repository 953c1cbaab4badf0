"""What is written for one ModelEngine, and when nothing is."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

import samples
from modelengine_kube import resources
from modelengine_operator import manifests, plan
from modelengine_operator.observed import Observed
from modelengine_operator.plan import Ownership
from samples import SETTINGS, observed

ALLOWED = {"runtime": {"image": "registry.example/other/engine:2"}}
FOREIGN = {"runtime": {"image": "elsewhere.example/engine:1"}}
HUB = {"model": {"source": "hf://a/b"}, "cache": {"size": "1Gi"}}


def written(world: Observed) -> list[str]:
    return [resource.kind for resource, _ in plan.writes(world, SETTINGS)]


def owned(*owners: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": "qwen-engine", "ownerReferences": list(owners)}}


def owner(**other: Any) -> dict[str, Any]:
    known = {"apiVersion": "modelengine.dev/v1alpha1", "kind": "ModelEngine", "name": "qwen", "uid": "uid-qwen"}
    return known | {"controller": True} | other


def test_all_is_written_where_nothing_is() -> None:
    world = observed(given=HUB, children={})
    wanted = manifests.all_of(samples.engine("qwen", HUB), SETTINGS)
    assert plan.writes(world, SETTINGS) == wanted
    assert next(r.kind for r, _ in wanted) == "PersistentVolumeClaim"


def test_nothing_is_written_where_all_is_as_it_should_be() -> None:
    assert written(observed()) == []
    assert written(observed(given=HUB)) == []


def test_only_what_is_missing_or_differs_is_written() -> None:
    world = observed()
    children = {r: c for r, c in world.children.items() if r is not resources.BUDGETS}
    deployment = dict(children[resources.DEPLOYMENTS])
    children[resources.DEPLOYMENTS] = deployment | {"spec": deployment["spec"] | {"replicas": 5}}
    assert written(dataclasses.replace(world, children=children)) == ["PodDisruptionBudget", "Deployment"]


@pytest.mark.parametrize(
    "world",
    [
        dataclasses.replace(observed(children={}), engine=None, invalid="spec.replicas: no"),
        observed(children={}, metadata={"deletionTimestamp": "2026-11-24T12:00:00Z"}),
        observed(children={}, name_owner="elder"),
        observed(children={}, given=FOREIGN),
        observed(children={resources.SERVICES: owned()}),
        observed(children={resources.SERVICES: owned(owner(uid="u-old"))}),
    ],
    ids=[
        "unreadable",
        "being deleted",
        "without its name",
        "image not allowed",
        "foreign object",
        "predecessor's object",
    ],
)
def test_nothing_is_written_for_one_that_may_not_have_it(world: Observed) -> None:
    assert written(world) == []


def test_another_image_that_is_allowed_is_written() -> None:
    assert len(written(observed(children={}, given=ALLOWED))) == 4


@pytest.mark.parametrize(
    ("owners", "whose"),
    [
        ([owner()], Ownership.OURS),
        ([owner(uid="u-old")], Ownership.PREDECESSOR),
        ([owner(uid="u-old", apiVersion="modelengine.dev/v1")], Ownership.PREDECESSOR),
        ([owner(uid="u-x", kind="Deployment", controller=False), owner()], Ownership.OURS),
        ([owner(uid="u-old", controller=False)], Ownership.FOREIGN),
        ([owner(uid="u-old", name="other")], Ownership.FOREIGN),
        ([owner(uid="u-old", kind="Deployment")], Ownership.FOREIGN),
        ([owner(uid="u-old", apiVersion="elsewhere.example/v1")], Ownership.FOREIGN),
        ([owner(uid="u-old", apiVersion="modelengine.development/v1")], Ownership.FOREIGN),
        ([], Ownership.FOREIGN),
    ],
)
def test_whose_an_object_is_is_told_by_its_owners(owners: list[dict[str, Any]], whose: Ownership) -> None:
    assert plan.ownership(samples.engine(), owned(*owners)) is whose


def test_an_object_without_owners_is_somebody_s() -> None:
    assert plan.ownership(samples.engine(), {"metadata": {"name": "qwen-engine"}}) is Ownership.FOREIGN
