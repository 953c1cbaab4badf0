"""A real Kubernetes for the tests of this folder: one for the session, a namespace of its own for each test.

The test process itself is moved into the cluster's network: API server, node and pods are reached by their addresses.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster.harness import control_plane as control_planes
from cluster.harness import node as nodes
from cluster.harness import places
from cluster.harness.control_plane import ControlPlane
from cluster.harness.node import Node

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def control_plane(request: pytest.FixtureRequest) -> Iterator[ControlPlane]:
    """etcd, API server, controller manager and scheduler; no node, so pods stay Pending."""
    with control_planes.running() as plane:
        yield plane
        if request.session.testsfailed:
            kept = places.keep_logs(plane.folder)
            print(f"\nThe cluster's logs are in {kept}")


@pytest.fixture(scope="session")
def node(control_plane: ControlPlane) -> Iterator[Node]:
    """A kubelet that runs our images: `cluster.harness.images` has their names."""
    with nodes.running(control_plane) as running:
        yield running


@pytest.fixture
def namespace(control_plane: ControlPlane) -> Iterator[str]:
    """A new one; it is deleted after the test, without waiting for its end."""
    name = f"test-{next(_numbers)}"
    control_plane.create_namespace(name)
    yield name
    control_plane.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")


@pytest.fixture
def kubeconfig(control_plane: ControlPlane) -> Path:
    """The administrator's."""
    return control_plane.kubeconfig


@pytest.fixture
def kubectl(control_plane: ControlPlane) -> Callable[..., str]:
    """kubectl(*words, stdin=...) -> its stdout."""
    return control_plane.kubectl


@pytest.fixture
def helm(control_plane: ControlPlane) -> Callable[..., str]:
    return control_plane.helm
