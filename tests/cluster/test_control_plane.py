"""The test cluster's own tests, without a node: what the other tests of this folder rely on."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.harness.audit import WRITES
from cluster.harness.control_plane import CommandFailed, ControlPlane

Command = Callable[..., str]
TESTS = Path(__file__).parents[1]

READER = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "Role",
    "metadata": {"name": "reader"},
    "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}],
}


def test_it_is_the_version_that_its_binaries_are_pinned_to(kubectl: Command) -> None:
    versions = json.loads(kubectl("version", "-o", "json"))
    assert versions["serverVersion"]["gitVersion"] == versions["clientVersion"]["gitVersion"] == "v1.34.4"


def test_nothing_in_it_reaches_the_machines_network(control_plane: ControlPlane) -> None:
    links = subprocess.run(["ip", "-brief", "link"], capture_output=True, text=True, check=True).stdout.splitlines()
    assert {line.split()[0] for line in links if not line.startswith("veth")} == {"lo", "node0"}


def test_a_service_account_has_only_the_rights_of_its_role(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.kubectl("create", "serviceaccount", "reader", "-n", namespace)
    control_plane.kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(READER))
    control_plane.kubectl(
        "create", "rolebinding", "reader", "--role=reader", f"--serviceaccount={namespace}:reader", "-n", namespace
    )
    as_reader = control_plane.kubeconfig_of("reader", namespace)

    assert "kube-root-ca.crt" in control_plane.kubectl("--kubeconfig", as_reader, "get", "configmaps")
    with pytest.raises(CommandFailed, match="forbidden"):
        control_plane.kubectl("--kubeconfig", as_reader, "create", "configmap", "mine")


def test_pods_that_a_namespace_does_not_allow_are_refused(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    with pytest.raises(CommandFailed, match='violates PodSecurity "restricted'):
        control_plane.kubectl("run", "bold", "--image=any", "-n", namespace)


def test_the_audit_log_counts_the_calls_of_one_user(control_plane: ControlPlane, namespace: str) -> None:
    before = control_plane.audit.mark()
    control_plane.kubectl("create", "configmap", "one", "-n", namespace)
    control_plane.kubectl("get", "configmaps", "-n", namespace)
    calls = control_plane.audit.calls(user="admin", namespace=namespace, since=before)
    assert [(call.verb, call.resource, call.code) for call in calls] == [
        ("create", "configmaps", 201),
        ("list", "configmaps", 200),
    ]
    assert len(control_plane.audit.calls(user="admin", verbs=WRITES, namespace=namespace, since=before)) == 1


def test_the_api_server_goes_and_comes_back_with_what_it_knew(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.kubectl("create", "configmap", "kept", "-n", namespace)
    with control_plane.without_api_server(), pytest.raises(CommandFailed, match="refused"):
        control_plane.kubectl("get", "configmaps", "-n", namespace)
    assert "kept" in control_plane.kubectl("get", "configmaps", "-n", namespace)
