"""The test cluster's own tests, with a node: what the end-to-end tests of this folder rely on."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import urllib.request
from pathlib import Path

import pytest

from cluster.harness import images, network, processes
from cluster.harness.control_plane import CommandFailed, ControlPlane
from cluster.harness.node import Node, claim

# A web server that says who answers, in the base image.
PORT = 8000
SERVE = ["sh", "-c", "cd /tmp && hostname > who && exec python3 -m http.server 8000"]


def pod(
    name: str, namespace: str, *command: str, image: images.Image = images.BASE, **more: object
) -> dict[str, object]:
    container = {"name": "main", "image": image.reference, "imagePullPolicy": "Never", "command": list(command), **more}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
    }


@pytest.fixture
def server(control_plane: ControlPlane, node: Node, namespace: str) -> str:
    """The name of a pod that serves; the Service before it is called `web`."""
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {"selector": {"app": "server"}, "ports": [{"port": 80, "targetPort": PORT}]},
    }
    probe = {"httpGet": {"path": "/who", "port": PORT}, "periodSeconds": 1}
    control_plane.apply(pod("server", namespace, *SERVE, readinessProbe=probe), service)
    wait_for(control_plane, namespace, "server", "condition=Ready")
    address = control_plane.kubectl("get", "service", "web", "-n", namespace, "-o", "jsonpath={.spec.clusterIP}")
    # kube-proxy hears of a ready pod within a second.
    processes.until(lambda: processes.answers(f"http://{address}/who"), 10, "the Service's first answer")
    return "server"


def wait_for(plane: ControlPlane, namespace: str, name: str, what: str) -> None:
    try:
        plane.kubectl("wait", f"pod/{name}", f"--for={what}", "-n", namespace, "--timeout=90s")
    except CommandFailed as exc:
        exc.add_note(plane.kubectl("describe", "pod", name, "-n", namespace))
        exc.add_note(plane.kubectl("logs", name, "-n", namespace, "--tail=20"))
        raise


def ask_from(plane: ControlPlane, namespace: str, name: str, host: str) -> str:
    script = f"import urllib.request as u; print(u.urlopen('http://{host}/who', timeout=5).read().decode())"
    return plane.kubectl("exec", name, "-n", namespace, "--", "python3", "-c", script).strip()


def test_a_pod_is_reached_by_its_address_from_the_tests(
    control_plane: ControlPlane, namespace: str, server: str
) -> None:
    address = control_plane.kubectl("get", "pod", server, "-n", namespace, "-o", "jsonpath={.status.podIP}")
    assert processes.answers(f"http://{address}:{PORT}/who")


def test_a_service_is_reached_by_its_names_from_another_pod_and_from_the_one_behind_it(
    control_plane: ControlPlane, namespace: str, server: str
) -> None:
    control_plane.apply(pod("other", namespace, "sleep", "600"))
    wait_for(control_plane, namespace, "other", "condition=Ready")
    for host in ("web", f"web.{namespace}", f"web.{namespace}.svc.{network.DNS_DOMAIN}"):
        assert ask_from(control_plane, namespace, "other", host) == server
    assert ask_from(control_plane, namespace, server, "web") == server


def test_a_name_that_nobody_has_is_refused_at_once(control_plane: ControlPlane, namespace: str, server: str) -> None:
    script = "import socket, time; began = time.monotonic()\ntry: socket.getaddrinfo('nobody.example', 80)\n"
    script += "except socket.gaierror as exc: print(exc.errno == socket.EAI_NONAME, time.monotonic() - began < 2)"
    said = control_plane.kubectl("exec", server, "-n", namespace, "--", "python3", "-c", script)
    assert said.split() == ["True", "True"]


def test_logs_are_read_and_ports_forwarded(control_plane: ControlPlane, namespace: str, server: str) -> None:
    argv = ["kubectl", "port-forward", "-n", namespace, "service/web", ":80"]
    with subprocess.Popen(argv, env=control_plane.environment, stdout=subprocess.PIPE, text=True) as forward:
        assert forward.stdout is not None
        try:
            found = re.search(r"127\.0\.0\.1:(\d+)", forward.stdout.readline())
            assert found is not None
            with urllib.request.urlopen(f"http://127.0.0.1:{found[1]}/who", timeout=5) as answer:
                assert answer.read().decode().strip() == "server"
        finally:
            forward.terminate()
    assert "GET /who" in control_plane.kubectl("logs", server, "-n", namespace)


def test_a_container_that_is_killed_from_outside_is_started_again(
    control_plane: ControlPlane, node: Node, namespace: str, server: str
) -> None:
    os.kill(node.pid_of(server, namespace, "main"), signal.SIGKILL)

    def again() -> bool:
        found = json.loads(control_plane.kubectl("get", "pod", server, "-n", namespace, "-o", "json"))
        status = found["status"]["containerStatuses"][0]
        return bool(status["restartCount"] == 1 and status["ready"])

    processes.until(again, 60, "the second start", pause_s=0.2)


def test_gpus_are_given_out_until_there_are_none(control_plane: ControlPlane, node: Node, namespace: str) -> None:
    node.advertise_gpus(4)
    try:
        limits = {"limits": {"nvidia.com/gpu": "2"}}
        for name in ("first", "second", "third"):
            control_plane.apply(pod(name, namespace, "sleep", "600", resources=limits))
        wait_for(control_plane, namespace, "second", "jsonpath={.status.phase}=Running")
        wait_for(control_plane, namespace, "third", "condition=PodScheduled=False")
        why = "jsonpath={.status.conditions[?(@.type=='PodScheduled')].message}"
        assert "Insufficient nvidia.com/gpu" in control_plane.kubectl("get", "pod", "third", "-n", namespace, "-o", why)
    finally:
        node.advertise_gpus(0)


def test_a_claim_gets_a_volume_that_the_user_of_our_images_may_write_to(
    control_plane: ControlPlane, node: Node, namespace: str
) -> None:
    writer = pod(
        "writer", namespace, "sh", "-c", "id -u > /kept/user", volumeMounts=[{"name": "kept", "mountPath": "/kept"}]
    )
    spec = writer["spec"]
    assert isinstance(spec, dict)
    spec |= {
        "restartPolicy": "Never",
        "securityContext": {"runAsUser": 10001},
        "volumes": [{"name": "kept", "persistentVolumeClaim": {"claimName": "kept"}}],
    }
    control_plane.apply(claim("kept", namespace), writer)
    wait_for(control_plane, namespace, "writer", "jsonpath={.status.phase}=Succeeded")
    volume = control_plane.kubectl("get", "pvc", "kept", "-n", namespace, "-o", "jsonpath={.spec.volumeName}")
    assert (node.folder / "volumes" / volume.removeprefix("folder-") / "user").read_text() == "10001\n"


def test_an_image_is_mounted_as_a_volume(
    control_plane: ControlPlane, node: Node, namespace: str, tmp_path: Path
) -> None:
    (tmp_path / "weights").write_text("1 2 3")
    node.add_image("localhost/model:test", tmp_path)
    mounted = [{"name": "model", "mountPath": "/model"}]
    reader = pod("reader", namespace, "sh", "-c", "cat /model/weights; touch /model/x || true", volumeMounts=mounted)
    spec = reader["spec"]
    assert isinstance(spec, dict)
    image = {"reference": "localhost/model:test", "pullPolicy": "Never"}
    spec |= {"restartPolicy": "Never", "volumes": [{"name": "model", "image": image}]}
    control_plane.apply(reader)
    wait_for(control_plane, namespace, "reader", "jsonpath={.status.phase}=Succeeded")
    said = control_plane.kubectl("logs", "reader", "-n", namespace)
    assert "1 2 3" in said
    assert "Read-only file system" in said


@pytest.mark.parametrize(
    ("image", "module"), [(images.OPERATOR, "modelengine_gateway.app"), (images.ENGINE, "modelengine_runtime.runner")]
)
def test_our_images_run_without_root_on_a_read_only_disk(
    control_plane: ControlPlane, node: Node, namespace: str, image: images.Image, module: str
) -> None:
    script = f"import os, {module}; print(os.getuid(), {module}.__file__)"
    locked = {"runAsNonRoot": True, "readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False}
    mounted = [{"name": "tmp", "mountPath": "/tmp"}]
    checked = pod(
        "checked", namespace, "python", "-c", script, image=image, securityContext=locked, volumeMounts=mounted
    )
    spec = checked["spec"]
    assert isinstance(spec, dict)
    spec |= {"restartPolicy": "Never", "volumes": [{"name": "tmp", "emptyDir": {}}]}
    control_plane.apply(checked)
    wait_for(control_plane, namespace, "checked", "jsonpath={.status.phase}=Succeeded")
    assert control_plane.kubectl("logs", "checked", "-n", namespace).startswith("10001 /opt/modelengine/lib/python3")
