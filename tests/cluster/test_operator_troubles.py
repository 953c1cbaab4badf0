"""What goes wrong with pods, quotas, policies and namespaces: the status has the reason, and a fix heals by itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from cluster import kubelets, operators
from cluster.admin import NAMESPACES, QUOTAS, Object, Refused
from cluster.harness.control_plane import ControlPlane
from cluster.harness.processes import until
from cluster.kubelets import Kubelet, State
from cluster.operators import Operator, Site
from modelengine import kinds
from modelengine_kube import resources
from modelengine_kube.resources import Resource

# From the pod's state to the reason in the list.
SEEN_S = 10.0
CRDS = Resource("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions")
POLICIES = Resource("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies")
BINDINGS = Resource(
    "admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings"
)


@pytest.fixture(scope="module")
def operator(control_plane: ControlPlane, kubelet: Kubelet) -> Iterator[Operator]:
    with operators.everywhere(control_plane, "operator-troubles", code=operators.SOON) as operator:
        yield operator


# Name of the ModelEngine: (what the kubelet says, how the column begins, what the message has in it).
POD_STATES: dict[str, tuple[State, str, str]] = {
    "pull": (kubelets.pulling("ErrImagePull", "no such tag"), f"ImagePullFailed: {operators.IMAGE}", "no such tag"),
    "back-off": (kubelets.pulling("ImagePullBackOff", "Back-off"), "ImagePullFailed", "Back-off"),
    "bad-name": (kubelets.pulling("InvalidImageName", "couldn't parse"), "InvalidImageName", "couldn't parse"),
    "config": (kubelets.pulling("CreateContainerConfigError", 'secret "x" not found'), "PodConfigError", "secret"),
    "crash": (kubelets.crashing(3, "starting\\nValueError: the last line\\n"), "CrashLoop", "the last line"),
    "oom": (kubelets.crashing(137, reason="OOMKilled"), "OOMKilled", "memory"),
    "load": (kubelets.crashing(1, "error: no config.json in the model\\n"), "ModelLoadFailed", "no config.json"),
}


def test_each_bad_state_of_a_pod_is_a_reason_within_seconds_and_ends_when_the_state_does(
    site: Site, kubelet: Kubelet
) -> None:
    for name, (state, _, _) in POD_STATES.items():
        kubelet.says(site.namespace, name, state)
        site.engine(name)
    for name, (_, column, words) in POD_STATES.items():
        site.until_reason(name, column, SEEN_S)
        assert words in site.condition(name)["message"]
    site.until_quiet(1.0)
    mark = site.plane.audit.mark()
    for name in POD_STATES:
        event = site.events(name)[-1]
        assert event["type"] == "Warning"
        kubelet.says(site.namespace, name, kubelets.READY)
    for name in POD_STATES:
        site.until_reason(name, "Serving", SEEN_S)
    assert site.pods_made(mark) == []


def test_a_pod_that_no_node_takes_says_what_is_lacking(site: Site) -> None:
    site.engine("gpu", resources={"limits": {"nvidia.com/gpu": "1"}})
    site.engine("place", nodeSelector={"disk": "fast"})
    site.until_reason("gpu", "Unschedulable: nvidia.com/gpu", SEEN_S)
    site.until_reason("place", "Unschedulable: disk=fast", SEEN_S)
    site.change("place", nodeSelector=None)
    site.until_reason("place", "Serving")


def test_while_a_new_image_cannot_be_pulled_the_old_pods_serve_on(site: Site, kubelet: Kubelet) -> None:
    site.engine("demo")
    site.until_reason("demo", "Serving")
    before = site.listed("demo")
    kubelet.says(site.namespace, "demo", _old_is_ready_new_is_pulled)
    site.change("demo", runtime={"image": "engine.test/missing:1"})
    site.until_reason("demo", "ImagePullFailed", SEEN_S)
    assert site.listed("demo") == before
    assert site.condition("demo", "Available")["status"] == "True"
    site.change("demo", runtime={"image": None})
    site.until_reason("demo", "Serving")
    assert site.listed("demo") == before


def _old_is_ready_new_is_pulled(pod: Object) -> Object:
    is_new = pod["spec"]["containers"][0]["image"] == "engine.test/missing:1"
    return (kubelets.pulling("ErrImagePull", "no such image") if is_new else kubelets.READY)(pod)


def test_pods_of_a_node_that_is_not_heard_stay_listed_as_long_as_there_are_no_others(
    site: Site, kubelet: Kubelet
) -> None:
    """So it is for a moment after each long outage of the API server."""
    site.engine("demo", replicas=2)
    site.until_reason("demo", "Serving")
    both = site.listed("demo")
    kubelet.says(site.namespace, "demo", lambda pod: _of_name(both[0], pod))
    site.until_reason("demo", "NodeSilent")
    until(lambda: site.listed("demo") == [both[1]], 5, "the one that is heard")
    kubelet.says(site.namespace, "demo", kubelets.unheard)
    until(lambda: site.status("demo").get("readyReplicas", 0) == 0, 5, "none is ready")
    until(lambda: site.listed("demo") == both, 5, "none is better")
    assert site.condition("demo")["status"] == "False"
    assert site.condition("demo", "Available")["status"] == "True"
    kubelet.says(site.namespace, "demo", kubelets.READY)
    site.until_reason("demo", "Serving")


def _of_name(unheard: str, pod: Object) -> Object:
    return (kubelets.unheard if pod["metadata"]["name"] == unheard else kubelets.READY)(pod)


def test_progress_of_a_download_is_seen_and_costs_few_writes(site: Site, kubelet: Kubelet) -> None:
    kubelet.says(site.namespace, "demo", kubelets.STARTING)
    site.engine("demo")
    site.until_reason("demo", "Starting")
    until(lambda: site.pods("demo")[0]["status"].get("podIP"), 10, "an address")
    address = site.pods("demo")[0]["status"]["podIP"]
    with kubelets.downloading(address):
        site.until_reason("demo", "Downloading", 12)
        mark = site.plane.audit.mark()
        time.sleep(6)
        writes = site.calls(mark)
    assert site.status("demo")["loading"]["stage"] == "downloading"
    assert 1 <= len(writes) <= 2, writes


def test_a_full_quota_of_pods_is_the_reason_and_a_larger_one_heals(site: Site) -> None:
    site.admin.create(QUOTAS, {"metadata": {"name": "few", "namespace": site.namespace}, "spec": {"hard": {"pods": 1}}})
    site.engine("demo", replicas=2)
    site.until_reason("demo", "QuotaExceeded", SEEN_S)
    assert len(site.listed("demo")) == 1
    site.admin.merge(QUOTAS, site.namespace, "few", {"spec": {"hard": {"pods": 2}}})
    site.until_reason("demo", "Serving")


def test_a_quota_that_refuses_an_object_is_the_reason_and_a_larger_one_heals(site: Site) -> None:
    hard = {"hard": {"services": 0}}
    site.admin.create(QUOTAS, {"metadata": {"name": "none", "namespace": site.namespace}, "spec": hard})
    site.engine("demo")
    site.until_reason("demo", "QuotaExceeded", SEEN_S)
    assert "exceeded quota" in site.condition("demo")["message"]
    site.admin.delete(QUOTAS, site.namespace, "none")
    site.until_reason("demo", "Serving", 30)


def test_a_namespace_that_takes_restricted_pods_only_takes_ours(site: Site) -> None:
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}
    site.admin.merge(NAMESPACES, None, site.namespace, {"metadata": {"labels": labels}})
    site.engine("demo")
    site.engine("hub", source="hf://org/name")
    for name in ("demo", "hub"):
        site.until_reason(name, "Serving")


@pytest.mark.parametrize(
    ("group", "resource", "reason"),
    [("", "pods", "PodsRefused"), ("apps", "deployments", "WriteRefused")],
)
def test_a_policy_that_refuses_is_quoted_and_when_it_is_gone_all_is_well(
    site: Site, group: str, resource: str, reason: str
) -> None:
    name = f"{site.namespace}.refuses"
    rule = {"apiGroups": [group], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": [resource]}
    policy = {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [rule]},
        "validations": [{"expression": "false", "message": "not in this house"}],
    }
    here = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": site.namespace}}}
    binding = {"policyName": name, "validationActions": ["Deny"], "matchResources": here}
    site.admin.create(POLICIES, {"metadata": {"name": name}, "spec": policy})
    site.admin.create(BINDINGS, {"metadata": {"name": name}, "spec": binding})
    try:
        until(lambda: _is_refused(site, resource), 20, "the policy is in force", pause_s=0.3)
        site.engine("demo")
        site.until_reason("demo", reason, SEEN_S)
        assert "not in this house" in site.condition("demo")["message"]
    finally:
        site.admin.delete(BINDINGS, None, name)
        site.admin.delete(POLICIES, None, name)
    site.until_reason("demo", "Serving", 60)


def _is_refused(site: Site, resource: str) -> bool:
    """Without leaving anything behind."""
    container = {"name": "probe", "image": "probe"}
    labels = {"probe": "probe"}
    pod: Object = {"metadata": {"name": "probe", "namespace": site.namespace, "labels": labels}}
    kind = resources.PODS if resource == "pods" else resources.DEPLOYMENTS
    spec: Object = {"containers": [container]}
    if kind is resources.DEPLOYMENTS:
        spec = {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": spec}}
    try:
        body = {"apiVersion": kind.api_version, "kind": kind.kind, **pod, "spec": spec}
        site.admin.call("POST", kind.path(site.namespace), body, dryRun="All")
    except Refused as refused:
        return "not in this house" in str(refused)
    return False


def test_a_namespace_that_is_deleted_with_engines_in_it_goes(site: Site) -> None:
    for name in ("one", "two", "three"):
        site.engine(name)
    for name in ("one", "two", "three"):
        site.until_reason(name, "Serving")
    site.admin.delete(NAMESPACES, None, site.namespace)
    until(lambda: site.admin.find(NAMESPACES, None, site.namespace) is None, 60, "the namespace is gone")
    mark = site.plane.audit.mark()
    time.sleep(3)
    assert site.calls(mark) == []


def test_the_crd_applied_again_moves_nothing(site: Site, control_plane: ControlPlane, operator: Operator) -> None:
    site.engine("demo")
    site.until_reason("demo", "Serving")
    site.until_quiet(1.0)
    mark = control_plane.audit.mark()
    operators.install_crd(control_plane)
    time.sleep(2)
    assert site.calls(mark) == []
    assert operator.is_healthy
    site.change("demo", replicas=2)
    site.until_reason("demo", "Serving")


def test_one_that_was_stored_before_todays_rules_says_so_and_its_pods_and_all_others_serve_on(
    site: Site, control_plane: ControlPlane
) -> None:
    for name in ("old", "other"):
        site.engine(name)
        site.until_reason(name, "Serving")
    before = site.registry()
    crd: Any = yaml.safe_load(operators.CRD.read_text())
    version = crd["spec"]["versions"][0]
    version.pop("selectableFields", None)
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    for key in [key for key in spec if key != "description"]:
        del spec[key]
    spec |= {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    try:
        control_plane.apply(crd)
        until(lambda: _takes_anything(site), 20, "the CRD of yesterday", pause_s=0.3)
        site.change("old", gracePeriodSeconds="long", tomorrow=True)
    finally:
        operators.install_crd(control_plane)
    site.until_reason("old", "InvalidSpec")
    assert "gracePeriodSeconds" in site.condition("old")["message"]
    assert site.condition("old", "Available")["status"] == "True"
    site.change("other", replicas=2)
    site.until_reason("other", "Serving")
    assert site.registry()["chat.old"] == before["chat.old"]
    assert len(site.listed("other")) == 2
    site.change("old", gracePeriodSeconds=60, tomorrow=None)
    site.until_reason("old", "Serving")


def _takes_anything(site: Site) -> bool:
    body = {"apiVersion": kinds.API_VERSION, "kind": kinds.KIND, "metadata": {"name": "probe"}, "spec": {"any": 1}}
    try:
        site.admin.call("POST", resources.MODELENGINES.path(site.namespace), body, dryRun="All")
    except Refused:
        return False
    return True
