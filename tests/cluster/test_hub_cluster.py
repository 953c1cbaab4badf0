"""A model from a hub in pods: fetched once into a cache volume, its progress told, and served while the hub is away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from callers import ask
from cluster import releases
from cluster.harness import network, processes
from cluster.harness.control_plane import ControlPlane
from cluster.harness.node import Node
from cluster.releases import Release
from hubs import FakeHub
from modelengine import ChatClient, kinds
from modelengine_runtime import source
from servers import running

TOKEN = "hf_theTokenOfTheClusterTest"


@pytest.fixture(scope="module")
def hub(control_plane: ControlPlane) -> FakeHub:
    return FakeHub({path.name: path.read_bytes() for path in source.DEMO_FOLDER.iterdir() if path.is_file()})


@pytest.fixture(scope="module")
def port() -> int:
    return 18080


@pytest.fixture(scope="module")
def release(control_plane: ControlPlane, node: Node, port: int) -> Iterator[Release]:
    endpoint = f"http://{network.NODE_IP}:{port}"
    with releases.installed(control_plane, "me-hub", **{"hub.endpoint": endpoint}) as installed:
        yield installed


def status(release: Release, name: str, namespace: str) -> dict[str, Any]:
    found: dict[str, Any] = release.get("me", name, namespace).get("status", {})
    return found


def test_a_model_is_fetched_once_with_its_progress_told_and_starts_again_while_the_hub_is_away(
    release: Release, hub: FakeHub, port: int, namespace: str
) -> None:
    kubectl = release.plane.kubectl
    secret = f"--from-literal={kinds.HUB_TOKEN_KEY}={TOKEN}"
    kubectl("create", "secret", "generic", kinds.HUB_TOKEN_SECRET, secret, "-n", namespace)
    hub.pause_s = 1.0
    with running(hub.app(), host=network.NODE_IP, port=port):
        release.apply("tiny", namespace, "hf://org/tiny@main", cache={"size": "1Gi", "accessMode": "ReadWriteMany"})
        seen = []

        def downloads() -> bool:
            seen.append(status(release, "tiny", namespace).get("loading"))
            return (seen[-1] or {}).get("stage") == "downloading"

        processes.until(downloads, 60, "stage downloading in the status", pause_s=0.2)
        assert seen[-1]["total"] == sum(len(data) for name, data in hub.files.items() if name != "README.md")
        hub.pause_s = 0.0
        release.wait("tiny", namespace)
    assert f"Bearer {TOKEN}" in hub.tokens
    with ChatClient(release.address) as client:
        assert client.chat("tiny", [{"role": "user", "content": "hello"}], options={"max_new_tokens": 4}).content
    (pod,) = release.pods("tiny", namespace)
    said = kubectl("logs", pod["metadata"]["name"], "-n", namespace, "--all-containers")
    assert "org/tiny is complete in /cache/" in said
    assert TOKEN not in said
    assert TOKEN not in json.dumps(pod)

    # The hub is away now. A new pod finds everything in the cache.
    kubectl("delete", "pod", pod["metadata"]["name"], "-n", namespace)
    processes.until(lambda: _is_new(release, namespace, pod), 60, "another pod", pause_s=0.2)
    release.wait("tiny", namespace)
    assert sorted(hub.downloads) == sorted(set(hub.downloads))


def _is_new(release: Release, namespace: str, old: dict[str, Any]) -> bool:
    pods = release.pods("tiny", namespace)
    return len(pods) == 1 and pods[0]["metadata"]["uid"] != old["metadata"]["uid"]


def test_a_model_that_the_hub_does_not_have_is_the_reason(
    release: Release, hub: FakeHub, port: int, namespace: str
) -> None:
    with running(hub.app(), host=network.NODE_IP, port=port):
        assert ask(f"{network.NODE_IP}:{port}", "/api/models/org/nope", method="GET").status == 404
        release.apply("nope", namespace, "hf://org/nope")

        def told() -> bool:
            conditions = status(release, "nope", namespace).get("conditions", [])
            return any("does not have it, or it is private" in condition["message"] for condition in conditions)

        processes.until(told, 90, "the hub's answer in a condition", pause_s=0.5)
    print(release.plane.kubectl("get", "me", "-n", namespace, "-o", "wide"))
