"""A user's whole journey on a real node with images: install, apply, wait, chat, scale, kill, delete, uninstall."""

from __future__ import annotations

import json
import os
import re
import signal
import time

import pytest

import transcript
from cluster import releases
from cluster.harness import images, processes
from cluster.harness.control_plane import CommandFailed, ControlPlane
from cluster.harness.node import Node
from cluster.releases import Release
from modelengine import ChatClient

HELLO = [{"role": "user", "content": "hello"}]


def client_pod(release: Release, namespace: str) -> dict[str, object]:
    """The second window of the first example, in the cluster."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "window", "namespace": namespace},
        "spec": {
            "restartPolicy": "Never",
            "containers": [
                {
                    "name": "window",
                    "image": images.OPERATOR.reference,
                    "imagePullPolicy": "Never",
                    "command": ["modelengine", "demo", "--host", release.host, "--timeout", "60"],
                }
            ],
        },
    }


@pytest.mark.usefixtures("node")
def test_the_journey_from_helm_install_to_helm_uninstall(
    control_plane: ControlPlane, node: Node, namespace: str
) -> None:
    kubectl = control_plane.kubectl
    with releases.installed(control_plane, "me-journey") as release:
        assert release.registry(release.namespace) == {}
        example = str(releases.ROOT / "examples" / "demo.yaml")
        began = time.monotonic()
        kubectl("apply", "-f", example, "-n", namespace)
        release.wait("demo", namespace)
        print(f"apply to Ready: {time.monotonic() - began:.1f} s")

        kubectl("apply", "-f", "-", stdin=json.dumps(client_pod(release, namespace)))
        said = release.last_words_of("window", namespace)
        pod_ip = release.pods("demo", namespace)[0]["status"]["podIP"]
        transcript.check(said.splitlines(), 8000, host=pod_ip)

        tested = control_plane.helm("test", "modelengine", "-n", release.namespace, "--logs")
        assert "Succeeded" in tested

        kubectl("scale", "me/demo", "--replicas=3", "-n", namespace)
        release.wait("demo", namespace, "jsonpath={.status.readyReplicas}=3")
        release.wait("demo", namespace)
        with ChatClient(release.address) as client:
            assert len(client.wait_service_available("demo", 10)) == 3
            victim = release.pods("demo", namespace)[0]["metadata"]["name"]
            os.kill(node.pid_of(victim, namespace, "engine"), signal.SIGKILL)
            # Whoever is asked, somebody answers.
            assert all(client.chat("demo", HELLO).content for _ in range(10))
            processes.until(lambda: len(client.wait_service_available("demo", 10)) < 3, 5, "the dead replica's leaving")
            assert all(client.chat("demo", HELLO).content for _ in range(10))
        release.wait("demo", namespace, "jsonpath={.status.readyReplicas}=3")

        kubectl("delete", "me/demo", "-n", namespace)
        processes.until(lambda: release.services(namespace) == [], 5, "the registry's emptiness")
        processes.until(lambda: release.pods("demo", namespace) == [], 60, "the end of the pods")
        assert kubectl("get", "deploy,svc,pdb,pvc", "-n", namespace, "-o", "name").split() == []

        control_plane.helm("uninstall", "modelengine", "-n", release.namespace, "--wait", "--timeout=180s")
        assert (
            kubectl("get", "configmaps", "-A", "--field-selector=metadata.name=modelengine-registry", "-o", "name")
            == ""
        )
        left = kubectl("get", "all,cm,sa,roles,rolebindings,pdb,networkpolicies", "-n", release.namespace, "-o", "name")
        ours = [name for name in left.split() if "modelengine" in name and not name.startswith("pod/")]
        assert ours == []


@pytest.mark.usefixtures("node")
def test_gpus_are_given_out_and_the_one_too_many_says_which_resource_is_lacking(
    control_plane: ControlPlane, node: Node, namespace: str
) -> None:
    node.advertise_gpus(1)
    try:
        with releases.installed(control_plane, "me-gpus") as release:
            gpu = {"limits": {"nvidia.com/gpu": "1", "memory": "3Gi"}, "requests": {"cpu": "50m", "memory": "300Mi"}}
            release.apply("first", namespace, resources=gpu)
            release.wait("first", namespace)
            pod = release.pods("first", namespace)[0]
            assert pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
            release.apply("second", namespace, resources=gpu)
            assert release.until_reason("second", namespace, "Unschedulable") == "Unschedulable: nvidia.com/gpu"
            listed = control_plane.kubectl("get", "me", "-n", namespace)
            print(listed)
            assert re.search(r"second .*False.*Unschedulable: nvidia.com/gpu", listed)
            # What it lacked becomes free, and it needs nobody's help.
            control_plane.kubectl("delete", "me/first", "-n", namespace)
            release.wait("second", namespace)
    finally:
        node.advertise_gpus(0)


@pytest.mark.usefixtures("node")
def test_uninstalling_with_engines_left_stops_them_and_keeps_what_the_user_wrote(
    control_plane: ControlPlane, namespace: str
) -> None:
    kubectl = control_plane.kubectl
    with releases.installed(control_plane, "me-left", watchNamespaces=f"{{{namespace}}}") as release:
        release.apply("demo", namespace)
        release.wait("demo", namespace)
        pod = release.pods("demo", namespace)[0]["metadata"]["name"]
        control_plane.helm("uninstall", "modelengine", "-n", release.namespace, "--timeout=180s")
        said = kubectl("logs", pod, "-n", namespace, "-c", "engine", "-f", "--ignore-errors", timeout_s=60)
        assert "ModelEngineInferenceEngine clean_up!" in said
        processes.until(lambda: release.pods("demo", namespace) == [], 60, "the end of the pods")
        assert release.find("configmap", "modelengine-registry", namespace) is None
        assert kubectl("get", "me", "-n", namespace, "-o", "name").split() == ["modelengine.modelengine.dev/demo"]
        kubectl("delete", "me/demo", "-n", namespace, "--timeout=10s")
        with pytest.raises(CommandFailed, match="not found"):
            kubectl("get", "me/demo", "-n", namespace)
