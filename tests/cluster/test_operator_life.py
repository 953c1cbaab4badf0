"""The life of a ModelEngine on a real API server: made, served, changed, deleted, made again.

One operator works in all namespaces here, with the chart's rights for that; pods are played by `kubelets.py`.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from cluster import kubelets, operators
from cluster.admin import Object
from cluster.harness.control_plane import ControlPlane
from cluster.harness.processes import until
from cluster.kubelets import Kubelet
from cluster.operators import Operator, Site
from modelengine import kinds
from modelengine_kube import resources
from modelengine_kube.resources import Resource

# The garbage collector learns of a new kind up to 30 s after its CRD came.
COLLECTED_S = 60.0


@pytest.fixture(scope="module")
def operator(control_plane: ControlPlane, kubelet: Kubelet) -> Iterator[Operator]:
    with operators.everywhere(control_plane, "operator-life") as operator:
        yield operator


def version(obj: Object) -> int:
    return int(obj["metadata"]["resourceVersion"])


def ready(engine: Object) -> Object:
    conditions = engine.get("status", {}).get("conditions", ())
    return next((condition for condition in conditions if condition["type"] == "Ready"), {})


def counts(entries: Iterable[Any]) -> dict[str, int]:
    """How many replicas each name has."""
    return {entry["name"]: len(entry["services"]) for entry in entries}


def names(registry: Object) -> dict[str, int]:
    return counts(map(json.loads, (registry.get("data") or {}).values()))


def registries(site: Site, since: str) -> list[dict[str, int]]:
    return [names(registry) for registry in site.history(resources.CONFIG_MAPS, since, kinds.REGISTRY_NAME)]


def test_a_pod_is_listed_when_it_is_ready_and_the_modelengine_is_ready_when_it_is_listed(
    site: Site, kubelet: Kubelet
) -> None:
    kubelet.says(site.namespace, "demo", kubelets.STARTING)
    since = site.version()
    site.engine("demo", model={"name": "Org/Model:1"})
    site.until_reason("demo", "Starting")
    assert counts(site.registry().values()) == {"Org/Model:1": 0}
    kubelet.says(site.namespace, "demo", kubelets.READY)
    site.until_reason("demo", "Serving")
    [pod] = site.pods("demo")
    assert site.registry() == {
        "chat.Org_2FModel_3A1": {
            "name": "Org/Model:1",
            "protocol": "chat",
            "engine": {"name": "demo", "uid": site.get("demo")["metadata"]["uid"]},
            "services": [
                {
                    "name": "Org/Model:1",
                    "host": pod["status"]["podIP"],
                    "port": 8000,
                    "protocol": "chat",
                    "uid": pod["metadata"]["uid"],
                    "pod": pod["metadata"]["name"],
                }
            ],
        }
    }
    engines = site.history(resources.MODELENGINES, since)
    first_ready = next(engine for engine in engines if ready(engine).get("status") == "True")
    listed = [r for r in site.history(resources.CONFIG_MAPS, since, kinds.REGISTRY_NAME) if any(names(r).values())]
    pods = site.history(resources.PODS, since)
    answering = [p for p in pods if any(c["type"] == "Ready" and c["status"] == "True" for c in _conditions(p))]
    assert version(answering[0]) < version(listed[0]) < version(first_ready)


def test_the_conditions_tell_the_way_in_order_and_kstatus_reads_them(site: Site) -> None:
    since = site.version()
    site.engine("demo")
    site.until_reason("demo", "Serving")
    states = [engine["status"] for engine in site.history(resources.MODELENGINES, since) if "status" in engine]
    told = [{c["type"]: c["status"] for c in status["conditions"]} for status in states]
    reasons = [reason for reason, _ in itertools.groupby(status["reason"] for status in states)]
    assert reasons[0] in ("Scheduling", "Starting")
    assert reasons[-1] == "Serving"
    assert len(reasons) == len(set(reasons)), reasons
    for conditions in told[:-1]:
        assert conditions["Ready"] == "True" or conditions["Reconciling"] == "True"
    assert all(conditions["Stalled"] == "False" for conditions in told)
    assert {**told[-1]} == {
        "Ready": "True",
        "Available": "True",
        "Registered": "True",
        "ModelLoaded": "True",
        "Reconciling": "False",
        "Stalled": "False",
    }
    site.plane.kubectl("wait", "me/demo", "--for=condition=Ready", "-n", site.namespace, "--timeout=5s")
    assert [event["reason"] for event in site.events("demo")] == reasons


def test_applying_the_same_again_does_nothing(site: Site, control_plane: ControlPlane) -> None:
    manifest: Object = {
        "apiVersion": kinds.API_VERSION,
        "kind": kinds.KIND,
        "metadata": {"name": "demo", "namespace": site.namespace},
        "spec": {"model": {"source": "demo://"}, "resources": {"limits": {"memory": "1024Mi", "cpu": "1000m"}}},
    }
    control_plane.apply(manifest)
    site.until_reason("demo", "Serving")
    site.until_quiet()
    before, mark = site.dump(), control_plane.audit.mark()
    control_plane.apply(manifest)
    time.sleep(2)
    assert site.calls(mark) == []
    assert site.pods_made(mark) == []
    assert site.dump() == before


def test_scaling_lists_each_new_replica_and_no_pod_is_made_twice(site: Site, control_plane: ControlPlane) -> None:
    mark = control_plane.audit.mark()
    site.engine("demo")
    site.until_reason("demo", "Serving")
    control_plane.kubectl("scale", "me/demo", "--replicas=3", "-n", site.namespace)
    site.until_reason("demo", "Serving")
    assert len(site.listed("demo")) == 3
    control_plane.kubectl("scale", "me/demo", "--replicas=1", "-n", site.namespace)
    site.until_reason("demo", "Serving")
    [pod] = site.pods("demo")
    assert site.listed("demo") == [pod["metadata"]["name"]]
    assert len(site.pods_made(mark)) == 3
    control_plane.kubectl("scale", "me/demo", "--replicas=0", "-n", site.namespace)
    site.until_reason("demo", "ScaledToZero")
    assert counts(site.registry().values()) == {"demo": 0}
    assert site.condition("demo")["status"] == "True"


def test_a_new_image_replaces_the_pods_and_the_name_is_never_missing(site: Site) -> None:
    site.engine("demo", replicas=2)
    site.until_reason("demo", "Serving")
    old, since = site.listed("demo"), site.version()
    site.change("demo", runtime={"image": "engine.test/other:2"})
    site.until_reason("demo", "Serving")
    assert not {*site.listed("demo")} & {*old}
    assert all(held["demo"] >= 2 for held in registries(site, since))
    images = {pod["spec"]["containers"][0]["image"] for pod in site.pods("demo")}
    assert images == {"engine.test/other:2"}


def test_a_renamed_model_answers_to_its_old_name_until_a_pod_has_the_new_one(site: Site) -> None:
    site.engine("demo", model={"name": "old"})
    site.until_reason("demo", "Serving")
    since = site.version()
    site.change("demo", model={"name": "new"})
    site.until_reason("demo", "Serving")
    until(lambda: "chat.old" not in site.registry(), 10, "the old name is gone")
    assert list(site.registry()) == ["chat.new"]
    for held in registries(site, since):
        assert held.get("old", 0) + held.get("new", 0) >= 1, held


def test_a_deleted_modelengine_leaves_the_registry_before_any_of_its_pods_ends(site: Site, kubelet: Kubelet) -> None:
    site.engine("demo", replicas=2)
    site.until_reason("demo", "Serving")
    since = site.version()
    kubelet.stopping_s = 2.0
    try:
        site.delete("demo")
        until(lambda: not site.admin.list(resources.PODS, site.namespace), COLLECTED_S, "the pods are gone")
    finally:
        kubelet.stopping_s = kubelets.STOPPING_S
    [unlisted] = site.history(resources.CONFIG_MAPS, since, kinds.REGISTRY_NAME)
    assert names(unlisted) == {}
    gone = [pod for pod in site.history(resources.PODS, since) if pod["gone"]]
    assert version(unlisted) < min(version(pod) for pod in gone)


def test_one_made_anew_at_once_under_the_same_name_is_served_by_new_pods(site: Site) -> None:
    site.engine("demo")
    site.until_reason("demo", "Serving")
    [old] = site.listed("demo")
    site.delete("demo")
    made = site.engine("demo")
    site.until_reason("demo", "Serving")
    assert old not in site.listed("demo")
    deployment = site.child("demo")
    assert deployment is not None
    assert deployment["metadata"]["ownerReferences"][0]["uid"] == made["metadata"]["uid"]
    [pod] = site.pods("demo")
    assert site.listed("demo") == [pod["metadata"]["name"]]


def test_a_pod_that_leaves_is_unlisted_at_once_and_its_successor_is_listed(site: Site, kubelet: Kubelet) -> None:
    site.engine("demo")
    site.until_reason("demo", "Serving")
    [old] = site.listed("demo")
    kubelet.stopping_s = 3.0
    try:
        site.admin.delete(resources.PODS, site.namespace, old)
        until(lambda: old not in site.listed("demo"), 2, "the pod that stops is not listed")
    finally:
        kubelet.stopping_s = kubelets.STOPPING_S
    site.until_reason("demo", "Serving")
    assert len(site.listed("demo")) == 1


def test_a_pod_that_is_relabelled_by_hand_leaves_the_registry_for_good(site: Site) -> None:
    site.engine("demo")
    site.until_reason("demo", "Serving")
    [old] = site.listed("demo")
    site.admin.merge(resources.PODS, site.namespace, old, {"metadata": {"labels": {kinds.LABEL_ENGINE: "aside"}}})
    until(lambda: old not in site.listed("demo"), 5, "the pod that was set aside is not listed")
    site.until_reason("demo", "Serving")
    site.admin.delete(resources.PODS, site.namespace, old)
    until(lambda: len(site.listed("demo")) == 1, 5, "its successor alone is listed")


@pytest.mark.parametrize("resource", [r for r in operators.CHILDREN if r is not resources.CLAIMS])
def test_a_child_that_somebody_deletes_or_changes_is_put_right(site: Site, resource: Resource) -> None:
    site.engine("demo")
    site.until_reason("demo", "Serving")
    before = site.child("demo", resource)
    assert before is not None
    changes: dict[Resource, Object] = {
        resources.DEPLOYMENTS: {"spec": {"replicas": 2}},
        resources.SERVICES: {"spec": {"selector": {kinds.LABEL_ENGINE: "other"}}},
        resources.SERVICE_ACCOUNTS: {"automountServiceAccountToken": True},
        resources.BUDGETS: {"spec": {"maxUnavailable": 5}},
    }
    name = kinds.child_name("demo")
    wrong = site.admin.merge(resource, site.namespace, name, changes[resource])
    wanted = {key: before.get(key) for key in ("spec", "automountServiceAccountToken")}

    def is_right() -> bool:
        now = site.child("demo", resource)
        return now is not None and {key: now.get(key) for key in wanted} == wanted

    assert {key: wrong.get(key) for key in wanted} != wanted
    until(is_right, 5, "put right")
    site.admin.delete(resource, site.namespace, name)
    until(lambda: site.child("demo", resource) is not None, 5, "made again")
    site.until_reason("demo", "Serving")


def test_a_modelengine_gets_all_that_it_needs_and_each_object_goes_with_it(site: Site) -> None:
    made = site.engine("demo", source="hf://org/name", cache={"size": "1Gi"})
    # For want of a volume, but all is made.
    site.until_reason("demo", "Unschedulable")
    for resource in operators.CHILDREN:
        [child] = [c for c in site.admin.list(resource, site.namespace) if c["metadata"]["name"].startswith("demo-")]
        [owner] = child["metadata"]["ownerReferences"]
        assert (owner["uid"], owner["kind"], owner["controller"]) == (made["metadata"]["uid"], kinds.KIND, True)
    site.delete("demo")
    left = [resources.MODELENGINES, resources.PODS, resources.DEPLOYMENTS, resources.SERVICES, resources.BUDGETS]
    until(lambda: not any(site.admin.list(resource, site.namespace) for resource in left), COLLECTED_S, "all is gone")
    assert site.registry() == {}


def _conditions(pod: Object) -> list[Object]:
    conditions: list[Object] = pod.get("status", {}).get("conditions", [])
    return conditions
