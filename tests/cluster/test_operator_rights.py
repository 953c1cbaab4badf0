"""The operator's and the uninstallation's rights on a real API server: enough, and each of them needed."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from chart import rights
from cluster import fault_proxy, operators
from cluster.harness.audit import READS, WRITES
from cluster.harness.control_plane import ControlPlane
from cluster.harness.processes import until
from cluster.operators import Home
from modelengine import kinds
from modelengine_kube import resources
from modelengine_operator import leadership

# An apply that makes an object is a patch in the audit log, and needs this right as well.
MADE_BY_APPLY = ("deployments", "services", "serviceaccounts", "persistentvolumeclaims", "poddisruptionbudgets")


def test_each_right_of_the_operator_is_used_and_it_asks_for_nothing_that_it_may_not(
    home: Home, control_plane: ControlPlane
) -> None:
    control_plane.kubectl("delete", "lease", "modelengine-operator", "-n", home.namespace, "--ignore-not-found")
    mark = control_plane.audit.mark()
    with fault_proxy.running(control_plane) as proxy, operators.running(home, server=proxy.url):
        home.engine("hub", source="hf://org/name", cache={"size": "1Gi"})
        home.engine("demo")
        home.until_reason("demo", "Serving")
        home.until_reason("hub", "Unschedulable")
        with proxy.silent(resources.CONFIG_MAPS):
            patch = {"data": {"chat.foreign": "{}"}}
            home.admin.merge(resources.CONFIG_MAPS, home.namespace, kinds.REGISTRY_NAME, patch)
            home.change("demo", replicas=2)
            until(lambda: len(home.listed("demo")) == 2, 15, "both are listed")
        time.sleep(leadership.RENEW_S + 1)
    used = {
        (call.resource, call.verb)
        for call in control_plane.audit.calls(user=home.user, verbs=READS | WRITES, since=mark)
    }
    given = {
        (resource, verb)
        for grant in home.grants
        if grant["kind"] == "Role" and grant["metadata"]["name"].startswith(operators.ACCOUNT)
        for rule in grant["rules"]
        for _, resource, _, verb in rights.of_rule(rule)
    }
    made = {(resource, "create") for resource in MADE_BY_APPLY}
    assert made <= given
    assert given - made == used
    assert operators.forbidden(control_plane, home.user, mark) == []


def test_an_apply_that_makes_an_object_needs_the_right_to_create(home: Home, control_plane: ControlPlane) -> None:
    for grant in home.grants:
        for rule in grant.get("rules", ()):
            if "services" in rule["resources"] and grant["metadata"]["name"].startswith(operators.ACCOUNT):
                rule["verbs"] = [verb for verb in rule["verbs"] if verb != "create"]
    control_plane.apply(*home.grants)
    with operators.running(home):
        home.engine("demo")
        home.until_reason("demo", "WriteRefused")
        assert 'cannot create resource "serviceaccounts"' in home.condition("demo")["message"]


def test_the_uninstallation_stops_all_and_leaves_what_users_wrote_and_their_downloads(
    home: Home, control_plane: ControlPlane
) -> None:
    with operators.running(home):
        home.engine("hub", source="hf://org/name", cache={"size": "1Gi"})
        home.engine("demo")
        home.until_reason("demo", "Serving")
        home.until_reason("hub", "Unschedulable")
    meta = {"name": "theirs", "namespace": home.namespace}
    home.admin.create(resources.CONFIG_MAPS, {"metadata": meta, "data": {"a": "b"}})
    mark, since = control_plane.audit.mark(), home.version()
    kubeconfig = control_plane.kubeconfig_of(operators.UNINSTALLER, home.namespace)
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-m", "modelengine_operator.uninstall"],
            env={**os.environ, "KUBECONFIG": str(kubeconfig), "MODELENGINE_NAMESPACES": home.namespace},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
    gone = (resources.DEPLOYMENTS, resources.SERVICES, resources.BUDGETS, resources.PODS)
    until(lambda: not any(home.admin.list(r, home.namespace) for r in gone), 30, "all pods and objects are gone")
    assert {obj["metadata"]["name"] for obj in home.admin.list(resources.MODELENGINES, home.namespace)} == {
        "demo",
        "hub",
    }
    [claim] = home.admin.list(resources.CLAIMS, home.namespace)
    assert "deletionTimestamp" not in claim["metadata"]
    assert home.admin.find(resources.CONFIG_MAPS, home.namespace, kinds.REGISTRY_NAME) is None
    assert home.admin.find(resources.CONFIG_MAPS, home.namespace, "theirs") is not None
    [unlisted] = [r for r in home.history(resources.CONFIG_MAPS, since, kinds.REGISTRY_NAME) if r["gone"]]
    [first, *_] = [d for d in home.history(resources.DEPLOYMENTS, since) if d["gone"]]
    assert int(unlisted["metadata"]["resourceVersion"]) < int(first["metadata"]["resourceVersion"])
    user = f"system:serviceaccount:{home.namespace}:{operators.UNINSTALLER}"
    assert operators.forbidden(control_plane, user, mark) == []


def test_an_operator_that_is_installed_again_brings_the_engines_back(home: Home) -> None:
    with operators.running(home):
        home.engine("demo")
        home.until_reason("demo", "Serving")
    for resource in (resources.DEPLOYMENTS, resources.SERVICES, resources.BUDGETS, resources.SERVICE_ACCOUNTS):
        home.admin.delete(resource, home.namespace, kinds.child_name("demo"))
    home.admin.delete(resources.CONFIG_MAPS, home.namespace, kinds.REGISTRY_NAME)
    until(lambda: not home.pods("demo"), 20, "the pods are gone")
    with operators.running(home):
        until(lambda: home.listed("demo"), 20, "it is served again")
        home.until_reason("demo", "Serving")


def test_rights_that_are_missing_for_a_while_delay_and_are_told_in_the_log(
    home: Home, control_plane: ControlPlane
) -> None:
    with operators.running(home) as operator:
        home.engine("demo")
        home.until_reason("demo", "Serving")
        control_plane.kubectl("delete", "rolebinding", operators.ACCOUNT, "-n", home.namespace)
        home.change("demo", replicas=2)
        until(lambda: "is forbidden" in operator.output, 20, "the log says what is missing")
        control_plane.apply(*home.grants)
        home.until_reason("demo", "Serving", 60)
        assert len(home.listed("demo")) == 2
