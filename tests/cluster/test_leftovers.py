"""What a cluster leaves on the machine: nothing, whether it is told to end or killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cluster.harness import cgroups, leftovers, network, places, processes, traces

TESTS = Path(__file__).parents[1]
KINDS = [pytest.param(["--control-plane"], 4, id="control plane"), pytest.param([], 10, id="node")]


@contextmanager
def another_one(kind: list[str]) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A cluster of a process of its own, and its folder; with a pod that runs, where it has a node."""
    argv = [sys.executable, "-m", "cluster.harness.up", *kind]
    env = {**os.environ, "PYTHONPATH": str(TESTS)}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=env) as process:
        try:
            assert process.stdout is not None
            assert any("Ctrl-C" in line for line in process.stdout), "it did not come up"
            folder = places.CLUSTERS / f"me-{process.pid}"
            if not kind:
                run_a_pod(folder)
            yield process, folder
        finally:
            process.kill()


def run_a_pod(folder: Path) -> None:
    inside = ["nsenter", f"--net={network.path(folder.name)}", str(folder / "bin" / "kubectl")]
    for words in (
        "run sleeper --image=localhost/modelengine-base:test --image-pull-policy=Never -- sleep 600",
        "wait pod/sleeper --for=condition=Ready --timeout=60s",
    ):
        env = {**os.environ, "KUBECONFIG": str(folder / "kubeconfig")}
        subprocess.run([*inside, *words.split()], check=True, env=env, capture_output=True)
    assert len(cgroups.processes(folder)) == 2
    assert leftovers.mounts(folder)


def assert_nothing_is_left(folder: Path, parts: list[int], containers: list[str]) -> None:
    processes.until(lambda: not any(map(processes.started_at, parts)), 10, "the end of its processes")
    assert traces.found(folder, containers) == []
    assert folder.name not in network.names()
    assert not leftovers.mounts(folder)
    assert not cgroups.folders(folder)
    assert not folder.exists()


def running_parts(folder: Path) -> list[int]:
    started = [int(path.read_text().split()[0]) for path in (folder / "pids").iterdir()]
    return [*started, *leftovers.shims(folder), *cgroups.processes(folder)]


@pytest.mark.parametrize(("kind", "parts"), KINDS)
def test_a_cluster_that_is_told_to_end_leaves_nothing(kind: list[str], parts: int) -> None:
    with another_one(kind) as (process, folder):
        ran = running_parts(folder)
        assert len(ran) >= parts
        containers = traces.container_ids(folder)
        assert bool(traces.found(folder, containers)) == (not kind)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    assert_nothing_is_left(folder, ran, containers)


@pytest.mark.parametrize(("kind", "parts"), KINDS)
def test_what_a_killed_cluster_left_is_removed_by_the_next_run(kind: list[str], parts: int) -> None:
    with another_one(kind) as (process, folder):
        ran = running_parts(folder)
        assert len(ran) >= parts
        containers = traces.container_ids(folder)
        assert bool(traces.found(folder, containers)) == (not kind)
        process.kill()
    assert folder.name in network.names()

    leftovers.clean()

    assert_nothing_is_left(folder, ran, containers)
