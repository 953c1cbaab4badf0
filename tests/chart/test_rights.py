"""The rights that the chart gives. One more or less fails here first, and is then talked about."""

from __future__ import annotations

import pytest

from chart.rendering import Object
from chart.rights import EVERYWHERE, IN_TWO_NAMESPACES, Right, of_rule


def place(obj: Object) -> tuple[str, str, str]:
    return obj["kind"], obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def given_by(role: Object) -> set[Right]:
    return {right for rule in role["rules"] for right in of_rule(rule)}


@pytest.mark.parametrize(("choice", "expected"), [("defaults", EVERYWHERE), ("namespaces", IN_TWO_NAMESPACES)])
def test_these_rights_are_given_and_no_others(
    rendered: dict[str, list[Object]], choice: str, expected: dict[tuple[str, str, str], set[Right]]
) -> None:
    roles = [obj for obj in rendered[choice] if obj["kind"] in ("Role", "ClusterRole")]
    assert {place(role): given_by(role) for role in roles} == expected


@pytest.mark.parametrize("choice", ["defaults", "namespaces"])
def test_each_role_is_bound_once_to_the_account_of_its_part(rendered: dict[str, list[Object]], choice: str) -> None:
    objects = rendered[choice]
    accounts = {obj["metadata"]["name"] for obj in objects if obj["kind"] == "ServiceAccount"}
    bound = []
    for binding in (obj for obj in objects if obj["kind"] in ("RoleBinding", "ClusterRoleBinding")):
        kind, namespace, name = place(binding)
        assert binding["roleRef"] == {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": kind.removesuffix("Binding"),
            "name": name,
        }
        [subject] = binding["subjects"]
        assert subject == {
            "kind": "ServiceAccount",
            "name": name.removesuffix("-lease"),
            "namespace": "home",
        }
        assert subject["name"] in accounts
        bound.append((kind.removesuffix("Binding"), namespace, name))
    # Users' roles are joined to the cluster's own and bound by nobody here.
    for_users = {("ClusterRole", "", "modelengine-view"), ("ClusterRole", "", "modelengine-edit")}
    roles = {place(obj) for obj in objects if obj["kind"] in ("Role", "ClusterRole")}
    assert sorted(bound) == sorted(roles - for_users)


def test_nothing_gives_wildcards_secrets_or_a_way_to_more_rights(rendered: dict[str, list[Object]]) -> None:
    forbidden_verbs = {"*", "escalate", "bind", "impersonate"}
    forbidden_resources = {
        "*",
        "secrets",
        "pods/exec",
        "pods/attach",
        "pods/portforward",
        "nodes",
        "roles",
        "rolebindings",
    }
    for choice, objects in rendered.items():
        for role in (obj for obj in objects if obj["kind"] in ("Role", "ClusterRole")):
            for group, resource, _, verb in given_by(role):
                assert group != "*", choice
                assert verb not in forbidden_verbs, choice
                assert resource not in forbidden_resources, choice


def test_nothing_cluster_wide_is_left_when_it_is_all_switched_off(rendered: dict[str, list[Object]]) -> None:
    assert [place(obj) for obj in rendered["all off"] if "namespace" not in obj["metadata"]] == []


def test_the_users_roles_join_those_of_the_cluster(rendered: dict[str, list[Object]]) -> None:
    prefix = "rbac.authorization.k8s.io/aggregate-to-"
    joined = {
        obj["metadata"]["name"]: [key for key in obj["metadata"]["labels"] if key.startswith(prefix)]
        for obj in rendered["defaults"]
        if obj["kind"] == "ClusterRole" and any(key.startswith(prefix) for key in obj["metadata"]["labels"])
    }
    assert joined == {"modelengine-view": [f"{prefix}view"], "modelengine-edit": [f"{prefix}edit"]}
