"""Where a model comes from, on a real node: a hub of ours through a cache, a claim, an image."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import servers
from cluster import releases
from cluster.harness import network, processes
from cluster.harness.control_plane import ControlPlane
from cluster.harness.node import Node, claim
from cluster.releases import Release
from hubs import FakeHub
from modelengine import ChatClient
from modelengine_runtime.source import DEMO_FOLDER

HELLO = [{"role": "user", "content": "hello"}]
SOURCE = "hf://org/tiny@main"


@pytest.fixture(scope="module")
def hub(node: Node) -> Iterator[tuple[FakeHub, str]]:
    """A hub on the node's address, which pods reach, and its URL."""
    fake = FakeHub({path.name: path.read_bytes() for path in DEMO_FOLDER.iterdir() if path.is_file()})
    with servers.running(fake.app(), host=network.NODE_IP) as port:
        yield fake, f"http://{network.NODE_IP}:{port}"


@pytest.fixture(scope="module")
def release(control_plane: ControlPlane, hub: tuple[FakeHub, str]) -> Iterator[Release]:
    with releases.installed(control_plane, "me-models", **{"hub.endpoint": hub[1]}) as installed:
        yield installed


@pytest.fixture(autouse=True)
def _calm(hub: tuple[FakeHub, str]) -> None:
    hub[0].asked.clear()
    hub[0].pause_s = 0.0
    hub[0].refusal = None


def test_a_model_of_the_hub_is_downloaded_once_for_all_pods_and_its_progress_is_in_the_status(
    release: Release, namespace: str, hub: tuple[FakeHub, str]
) -> None:
    fake, _ = hub
    fake.pause_s = 2.0
    token = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "modelengine-hub-token", "namespace": namespace},
        "stringData": {"token": "hf_notarealtoken"},
    }
    release.plane.apply(token)
    cache = {"size": "1Gi", "accessMode": "ReadWriteMany"}
    release.apply("tiny", namespace, SOURCE, replicas=2, cache=cache)
    seen: list[dict[str, object]] = []

    def downloading() -> bool:
        loading = (release.find("me", "tiny", namespace) or {}).get("status", {}).get("loading", {})
        if loading:
            seen.append(loading)
        return bool(loading.get("stage") == "downloading" and 0 < loading.get("bytes", 0) < loading["total"])

    processes.until(downloading, 60, "a download's progress", pause_s=0.2)
    release.until_reason("tiny", namespace, "Downloading: ", 10)
    release.wait("tiny", namespace)
    assert "loading" not in release.get("me", "tiny", namespace)["status"]
    assert sorted(fake.downloads) == sorted(set(fake.downloads)), "no file twice"
    assert "Bearer hf_notarealtoken" in fake.tokens
    with ChatClient(release.address) as client:
        assert client.chat("tiny", HELLO).content
    # Neither in the object, nor in the pod, nor in a log.
    shown = [json.dumps(pod) for pod in release.pods("tiny", namespace)]
    shown.append(
        release.plane.kubectl("logs", "-n", namespace, "-l", "modelengine.dev/engine=tiny", "--all-containers")
    )
    assert not any("hf_notarealtoken" in text for text in shown)

    # What is in the cache needs no hub any more.
    fake.refusal = (503, "")
    release.plane.kubectl("delete", "pods", "-n", namespace, "-l", "modelengine.dev/engine=tiny", "--wait=false")
    processes.until(lambda: len(release.services(namespace)) < 2, 20, "their leaving")
    release.wait("tiny", namespace)


def test_a_model_that_the_hub_does_not_have_is_a_reason_and_its_repair_heals(release: Release, namespace: str) -> None:
    release.apply("tiny", namespace, "hf://org/missing")
    release.until_reason("tiny", namespace, "FetchFailed", 90)
    assert "org/missing" in release.message("tiny", namespace)
    assert release.services(namespace) == []
    release.apply("tiny", namespace, SOURCE)
    release.wait("tiny", namespace)


def test_a_folder_in_a_claim_is_served_and_stays_as_it_was(release: Release, node: Node, namespace: str) -> None:
    release.plane.apply(claim("models", namespace))
    release.apply("kept", namespace, "pvc://models/chat/tiny")
    volume = ""

    def bound() -> bool:
        nonlocal volume
        volume = release.get("pvc", "models", namespace)["spec"].get("volumeName", "")
        return bool(volume)

    processes.until(bound, 30, "the claim's volume")
    folder: Path = node.folder / "volumes" / volume.removeprefix("folder-") / "chat" / "tiny"
    # The kubelet makes the folder of a subPath that is missing, and the engine says what it misses in it.
    release.until_reason("kept", namespace, "ModelLoadFailed", 90)
    assert "config.json" in release.message("kept", namespace)
    shutil.copytree(DEMO_FOLDER, folder, dirs_exist_ok=True)
    release.wait("kept", namespace)
    with ChatClient(release.address) as client:
        assert client.chat("kept", HELLO).content
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in DEMO_FOLDER.iterdir())


def test_a_folder_in_an_image_is_served_from_an_image_volume(release: Release, node: Node, namespace: str) -> None:
    node.add_image("localhost/a-model:test", DEMO_FOLDER)
    release.apply("packed", namespace, "oci://localhost/a-model:test")
    release.wait("packed", namespace)
    with ChatClient(release.address) as client:
        assert client.chat("packed", HELLO).content
