"""A real Kubernetes for the tests of this folder: one for the session, a namespace of its own for each test.

The test process itself is moved into the cluster's network: API server, node and pods are reached by their addresses.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster import fault_proxy, kubelets, operators
from cluster.fault_proxy import FaultProxy
from cluster.harness import control_plane as control_planes
from cluster.harness import node as nodes
from cluster.harness import places
from cluster.harness.control_plane import ControlPlane
from cluster.harness.node import Node
from cluster.kubelets import Kubelet
from cluster.operators import Home, Operator, Site

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


@pytest.fixture(scope="module")
def kubelet(control_plane: ControlPlane) -> Iterator[Kubelet]:
    """A played one, for sessions without a node: it runs nothing, and says of each pod what a test wants."""
    with kubelets.running(control_plane) as kubelet:
        yield kubelet


@pytest.fixture
def home(control_plane: ControlPlane, namespace: str, kubelet: Kubelet) -> Iterator[Home]:
    """A namespace for an operator of the test's own, with the chart's rights."""
    with operators.home(control_plane, namespace) as home:
        yield home


@pytest.fixture
def proxy(control_plane: ControlPlane) -> Iterator[FaultProxy]:
    """Stands between an operator and the API server, and breaks what passes."""
    with fault_proxy.running(control_plane) as proxy:
        yield proxy


@pytest.fixture
def site(operator: Operator, control_plane: ControlPlane, namespace: str) -> Iterator[Site]:
    """A namespace that the module's one operator serves."""
    site = Site(control_plane, namespace, operator.home.user)
    yield site
    site.close()
