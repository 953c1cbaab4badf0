"""A node with our images and a release of the chart on it, for the benchmarks that need real pods."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from cluster import releases
from cluster.harness import control_plane, node, processes
from cluster.harness.node import Node
from cluster.releases import Release

HOME = "bench-release"
NAMESPACE = "bench"
EXAMPLE = releases.ROOT / "examples" / "demo.yaml"
MODEL = "demo"
READY_S = 240.0
GONE_S = 120.0


def say(what: str) -> None:
    print(f"  {what}", file=sys.stderr, flush=True)


@contextmanager
def running() -> Iterator[tuple[Release, Node]]:
    """The namespace is there, and nothing in it. Waits while another cluster on this machine has a node."""
    with control_plane.running() as plane, node.running(plane, say) as made:
        plane.create_namespace(NAMESPACE)
        with releases.installed(plane, HOME) as release:
            try:
                yield release, made
            finally:
                delete(release)


def doors(release: Release) -> list[str]:
    """The front doors' own addresses, each `host:port`."""
    service = f"kubernetes.io/service-name={release.name}"
    found = release.plane.kubectl("get", "endpointslices", "-n", HOME, "-l", service, "-o", "json")
    slices = json.loads(found)["items"]
    return sorted(
        f"{endpoint['addresses'][0]}:{part['ports'][0]['port']}"
        for part in slices
        for endpoint in part["endpoints"]
        if endpoint["conditions"]["ready"]
    )


def delete(release: Release) -> None:
    """The ModelEngine, and its pods' end."""
    release.plane.kubectl("delete", "modelengines", "--all", "-n", NAMESPACE)
    processes.until(lambda: not release.pods(MODEL, NAMESPACE), GONE_S, "the end of the pods", pause_s=0.5)


def wait_replicas(release: Release, count: int) -> None:
    """Until so many are listed and the status says that this is how it should be."""
    processes.until(lambda: len(release.services(NAMESPACE)) == count, READY_S, f"{count} replicas", pause_s=0.2)
    release.wait(MODEL, NAMESPACE, f"jsonpath={{.status.readyReplicas}}={count}", READY_S)
    release.wait(MODEL, NAMESPACE, timeout_s=READY_S)
