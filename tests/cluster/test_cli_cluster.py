"""The command line against a real cluster: the user's kubectl, a real port-forward, engines in pods."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import windows
from cluster import releases
from cluster.harness import processes
from cluster.harness.control_plane import ControlPlane
from cluster.harness.node import Node
from cluster.releases import Release

NAME = "Org/Chat-1"
HOME = "cli-home"


@pytest.fixture(scope="module")
def release(control_plane: ControlPlane, node: Node) -> Iterator[Release]:
    """The chart, and a ModelEngine `chat` in HOME that serves NAME."""
    with releases.installed(control_plane, "me-cli") as installed:
        control_plane.create_namespace(HOME)
        installed.apply("chat", HOME, model={"name": NAME})
        installed.wait("chat", HOME)
        yield installed
        control_plane.kubectl("delete", "namespace", HOME, "--wait=false")


def call(release: Release, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return windows.modelengine(*arguments, **{**release.plane.environment, **env})


def forwards() -> list[str]:
    """The command lines of all port-forwards of this machine's tests."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = process.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"port-forward" in words and b"--namespace=me-cli" in words:
            found.append(process.parent.name)
    return found


def test_engines_and_their_pods_are_listed_from_outside(release: Release) -> None:
    rows = [line.split() for line in call(release, "-n", HOME, "ls").stdout.splitlines()]
    assert rows[0] == ["NAME", "MODEL", "READY", "REPLICAS", "REASON", "AGE"]
    assert rows[1][:4] == ["chat", NAME, "True", "1/1"]
    (record,) = json.loads(call(release, "-n", HOME, "ps", "-o", "json").stdout)
    (pod,) = release.pods("chat", HOME)
    # What the engine says of itself has come through the API server.
    assert (record["name"], record["pod"], record["node"]) == (NAME, pod["metadata"]["name"], "node0")
    assert (record["state"], record["device"], record["running"]) == ("Running", "cpu", 0)


def test_a_chat_from_outside_is_relayed_and_leaves_nothing_behind(release: Release) -> None:
    done = call(release, "-n", HOME, "run", NAME, "hello", "-o", "max_new_tokens=8", "-v")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert "ttft" in done.stderr
    assert processes.until(lambda: forwards() == [], 5, "the port-forward's end") is None


def test_a_wait_outlives_the_front_door_pod_that_it_goes_through(release: Release) -> None:
    argv = [*windows.COMMAND, "-n", HOME, "wait", "late", "--timeout", "200"]
    with windows.opened(argv, **release.plane.environment) as window:
        processes.until(lambda: len(forwards()) >= 1, 30, "the port-forward")
        release.plane.kubectl("delete", "pods", "-n", release.namespace, "-l", "app.kubernetes.io/component=front-door")
        release.apply("late", HOME)
        assert window.end(240) == 0, window.err
        assert window.out.splitlines()[1].split()[0] == "late"
    release.plane.kubectl("delete", "me/late", "-n", HOME)


def test_a_name_that_never_comes_is_told_with_the_cluster_s_reason(release: Release) -> None:
    release.apply("stuck", HOME, nodeSelector={"disk": "huge"})
    release.until_reason("stuck", HOME, "Unschedulable")
    done = call(release, "-n", HOME, "wait", "stuck", "--timeout", "1")
    assert done.returncode == 4
    assert "ModelEngine cli-home/stuck: Unschedulable" in done.stderr
    done = call(release, "-n", HOME, "logs", "stuck")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: no pod of stuck has started: ")
    release.plane.kubectl("delete", "me/stuck", "-n", HOME)


def test_logs_are_read_by_either_name_and_say_from_which_pod(release: Release) -> None:
    (pod,) = release.pods("chat", HOME)
    for name in ("chat", NAME):
        done = call(release, "-n", HOME, "logs", name)
        line = f"[pod/{pod['metadata']['name']}/engine] ModelEngineInferenceEngine: {NAME} is running! port: 8000"
        assert line in done.stdout.splitlines(), done.stderr


def test_doctor_finds_all_of_it_in_order_and_misses_the_gpus(release: Release, node: Node) -> None:
    done = call(release, "-n", HOME, "doctor", "-o", "json")
    found = {record["name"]: record for record in json.loads(done.stdout)}
    assert done.returncode == 0
    assert [name for name, record in found.items() if record["state"] != "ok"] == ["GPUs"]
    node.advertise_gpus(4)
    try:
        assert "4 nvidia.com/gpu on 1 node" in call(release, "-n", HOME, "doctor").stdout
    finally:
        node.advertise_gpus(0)


def test_whoever_may_only_look_sees_the_engines_and_is_told_what_else_he_may_not(release: Release) -> None:
    kubectl = release.plane.kubectl
    kubectl("create", "serviceaccount", "guest", "-n", HOME)
    kubectl("create", "rolebinding", "guest", "--clusterrole=view", f"--serviceaccount={HOME}:guest", "-n", HOME)
    env = {"KUBECONFIG": str(release.plane.kubeconfig_of("guest", HOME))}
    assert NAME in call(release, "-n", HOME, "ls", **env).stdout
    pods = json.loads(call(release, "-n", HOME, "ps", "-o", "json", **env).stdout)
    assert [pod.get("device") for pod in pods if pod["name"] == NAME] == [None]
    done = call(release, "-n", HOME, "run", NAME, "hello", **env)
    assert done.returncode == 1
    assert "no front door" in done.stderr
    done = call(release, "--front-door-namespace", release.namespace, "run", NAME, "hello", **env)
    assert done.returncode == 1
    assert done.stderr.startswith("error: the cluster does not let you: services is forbidden: ")
    states = {
        r["name"]: r["state"] for r in json.loads(call(release, "-n", HOME, "doctor", "-o", "json", **env).stdout)
    }
    assert {
        "operator": "warn",
        "GPUs": "warn",
        "right to see models": "ok",
        "right to chat from here": "warn",
    }.items() <= (states.items())


def test_it_is_a_plugin_of_kubectl_s(release: Release, tmp_path: Path) -> None:
    plugin = tmp_path / "kubectl-modelengine"
    code = "from modelengine.cli.main import run_as_plugin; run_as_plugin()"
    plugin.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{code}' \"$@\"\n")
    plugin.chmod(0o755)
    env = release.plane.environment
    env["PATH"] = f"{tmp_path}:{env['PATH']}"
    done = subprocess.run(
        ["kubectl", "modelengine", "ls", "-A", "-o", "name"], env=env, capture_output=True, text=True, timeout=60
    )
    assert NAME in done.stdout.splitlines(), done.stderr


def test_a_context_that_is_none_is_said_with_how_to_find_one(release: Release) -> None:
    done = call(release, "--context", "nowhere", "ls")
    assert done.returncode == 2
    assert "nowhere" in done.stderr
    assert done.stderr.endswith("kubectl config get-contexts lists them\n")
