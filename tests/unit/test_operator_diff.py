"""Whether an object must be written. What a real API server makes of ours is in tests/cluster/test_manifests.py."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import samples
from modelengine_kube import resources
from modelengine_operator import diff, manifests
from modelengine_operator.manifests import ANNOTATION_APPLIED
from samples import SETTINGS

Object = dict[str, Any]
GIVEN: Object = {
    "model": {"source": "hf://a/b"},
    "runtime": {"env": [{"name": "A", "value": "1000m"}, {"name": "B"}]},
    "resources": {"limits": {"memory": "1024Mi", "nvidia.com/gpu": 1}, "requests": {"cpu": "0.5"}},
    "cache": {"size": "1.5Gi"},
    "tolerations": [{"key": "gpu", "operator": "Exists"}],
}
WANTED = dict(manifests.all_of(samples.engine("qwen", GIVEN), SETTINGS))


def stored(resource: resources.Resource = resources.DEPLOYMENTS) -> Object:
    """As an API server gives it back: with more in it, and other words for the same."""
    there = copy.deepcopy(WANTED[resource])
    there["metadata"] |= {"uid": "u", "resourceVersion": "7", "generation": 1, "managedFields": []}
    there["status"] = {}
    if resource is resources.CLAIMS:
        there["spec"] |= {"volumeMode": "Filesystem", "resources": {"requests": {"storage": "1536Mi"}}}
    if resource is resources.DEPLOYMENTS:
        there["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = "1"
        pod = there["spec"]["template"]["spec"]
        pod |= {"restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler"}
        [engine] = pod["containers"]
        engine["resources"] = {"limits": {"memory": "1Gi", "nvidia.com/gpu": "1"}, "requests": {"cpu": "500m"}}
        engine["terminationMessagePath"] = "/dev/termination-log"
        del named(engine["env"], "B")["value"]
    return there


def named(items: list[Object], name: str) -> Object:
    [found] = [item for item in items if item["name"] == name]
    return found


def needs_write(there: Object | None, resource: resources.Resource = resources.DEPLOYMENTS) -> bool:
    return diff.needs_write(WANTED[resource], there)


def test_what_is_not_there_is_written() -> None:
    assert needs_write(None)


@pytest.mark.parametrize("resource", WANTED, ids=lambda resource: resource.kind)
def test_what_is_there_is_not_written_again(resource: resources.Resource) -> None:
    assert not needs_write(WANTED[resource], resource)
    assert not needs_write(stored(resource), resource)


@pytest.mark.parametrize("resource", WANTED, ids=lambda resource: resource.kind)
def test_what_was_applied_by_another_version_of_us_is_written(resource: resources.Resource) -> None:
    there = stored(resource)
    there["metadata"]["annotations"][ANNOTATION_APPLIED] = "other"
    assert needs_write(there, resource)
    del there["metadata"]["annotations"]
    assert needs_write(there, resource)


def change(there: Object, *path: str | int, to: Any) -> Object:
    holder = there
    for step in path[:-1]:
        holder = holder[step]
    holder[path[-1]] = to
    return there


POD = ("spec", "template", "spec")


@pytest.mark.parametrize(
    ("path", "to"),
    [
        (("spec", "replicas"), 2),
        (("metadata", "labels"), {}),
        (("metadata", "ownerReferences"), []),
        ((*POD, "automountServiceAccountToken"), True),
        ((*POD, "tolerations"), []),
        ((*POD, "tolerations", 0, "key"), "other"),
        ((*POD, "volumes"), None),
        ((*POD, "containers", 0, "env", 0, "value"), "other"),
        ((*POD, "containers", 0, "env"), []),
        ((*POD, "containers", 0, "command"), ["sh"]),
        ((*POD, "containers", 0, "resources", "limits", "memory"), "2Gi"),
        ((*POD, "containers", 0, "resources", "limits"), None),
        ((*POD, "containers", 0, "securityContext", "readOnlyRootFilesystem"), False),
        ((*POD, "containers", 0, "securityContext", "capabilities", "drop"), ["NET_RAW"]),
        ((*POD, "initContainers"), []),
        ((*POD, "initContainers"), "none"),
        ((*POD, "securityContext"), []),
    ],
    ids=str,
)
def test_what_somebody_changed_is_put_back(path: tuple[str | int, ...], to: Any) -> None:
    assert needs_write(change(stored(), *path, to=to))


def test_what_somebody_added_to_a_list_that_is_shared_stays() -> None:
    there = stored()
    engine = there["spec"]["template"]["spec"]["containers"][0]
    engine["env"].insert(0, {"name": "THEIRS", "value": "1"})
    there["spec"]["template"]["spec"]["containers"].insert(0, {"name": "sidecar", "image": "mesh:1"})
    there["metadata"]["ownerReferences"].insert(0, {"kind": "ConfigMap", "name": "x", "uid": "u-x"})
    assert not needs_write(there)


@pytest.mark.parametrize(
    "field",
    [
        *("containers", "initContainers", "env", "volumes", "volumeMounts", "ports", "imagePullSecrets"),
        *("ownerReferences", "topologySpreadConstraints"),
    ],
)
def test_which_lists_are_shared(field: str) -> None:
    ours, theirs = {"name": "ours", "value": "1"}, {"name": "theirs"}
    assert diff.contains({field: [theirs, ours]}, {field: [ours]})
    assert not diff.contains({field: [theirs]}, {field: [ours]})
    assert not diff.contains({field: [theirs, ours | {"value": "2"}]}, {field: [ours]})
    assert field in diff.SHARED_LISTS
    assert len(diff.SHARED_LISTS) == 9


def test_what_somebody_added_to_a_list_that_is_ours_goes() -> None:
    there = stored()
    there["spec"]["template"]["spec"]["tolerations"].append({"operator": "Exists"})
    assert needs_write(there)


def test_only_an_amount_may_be_written_in_other_ways() -> None:
    there = stored()
    named(there["spec"]["template"]["spec"]["containers"][0]["env"], "A")["value"] = "1"
    assert needs_write(there)


@pytest.mark.parametrize(
    ("ours", "servers"),
    [
        ("1", "1"),
        ("1000m", "1"),
        ("1.50", "1500m"),
        ("1024Mi", "1Gi"),
        ("0.3Gi", "322122547200m"),
        ("1e3", "1k"),
        ("10e2", "1e3"),
        ("1n", "1m"),
        ("1.1u", "1m"),
        ("123456789.123456789", "123456789124m"),
        ("12E", "9223372036854775807"),
        ("1e99", "9223372036854775807"),
        ("9" * 22, "9223372036854775807"),
        ("8Ei", "9223372036854775807"),
        ("0.0", "0"),
    ],
)
def test_amounts_are_compared_as_the_api_server_keeps_them(ours: str, servers: str) -> None:
    assert diff.contains({"limits": {"cpu": servers}}, {"limits": {"cpu": ours}})
    assert diff.contains({"sizeLimit": servers}, {"sizeLimit": ours})
    assert diff.contains({"requests": {"x": ours}}, {"requests": {"x": servers}})
    assert not diff.contains({"limits": {"cpu": "77"}}, {"limits": {"cpu": ours}})


@pytest.mark.parametrize("value", ["", "Gi", "1GB", "-1", None, 1, ["1"], {"a": "1"}])
def test_what_is_no_amount_is_no_other_amount(value: Any) -> None:
    assert not diff.contains({"limits": {"cpu": value}}, {"limits": {"cpu": "1"}})
    assert not diff.contains({"limits": {"cpu": "1"}}, {"limits": {"cpu": value or "?"}})
    assert not diff.contains({"limits": {"cpu": value}}, {"limits": {"cpu": "much"}})


@pytest.mark.parametrize("empty", ["", None, [], {}])
def test_what_is_left_out_is_as_good_as_empty(empty: Any) -> None:
    assert diff.contains({}, {"field": empty})
    assert diff.contains({"field": None}, {"field": empty})


@pytest.mark.parametrize("value", ["x", False, 0, ["x"], {"a": ""}])
def test_what_is_left_out_is_nothing_else(value: Any) -> None:
    assert not diff.contains({}, {"field": value})


def test_a_protection_that_somebody_removed_is_put_back() -> None:
    there = stored()
    del there["spec"]["template"]["spec"]["automountServiceAccountToken"]
    assert needs_write(there)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["", "a", "1", "1000m"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "env", "limits", "b"]), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(VALUES)
def test_everything_contains_itself(value: Any) -> None:
    assert diff.contains(value, copy.deepcopy(value))


@given(VALUES, st.dictionaries(st.sampled_from(["new", "other"]), VALUES))
def test_more_beside_it_does_not_matter(value: Any, more: Object) -> None:
    assert diff.contains({"it": value} | more, {"it": value})


@given(VALUES, VALUES)
def test_comparing_never_fails(one: Any, other: Any) -> None:
    assert diff.contains(one, other) in (True, False)


UNITS = ["", *"mkMGT", "Ki", "Mi", "Gi", "Ti"]


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.sampled_from(UNITS))
def test_amounts_are_equal_when_their_numbers_are(one: int, other: int, unit: str) -> None:
    there, wanted = {"limits": {"x": f"{one}{unit}"}}, {"limits": {"x": f"{other}{unit}"}}
    assert diff.contains(there, wanted) == (one == other)
