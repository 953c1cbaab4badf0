"""The cgroup that all containers of a cluster are in: made before the kubelet needs it; what still runs in it is ended.

Both versions of cgroups: with the first each controller has a tree of its own.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path


def name(cluster: Path) -> str:
    return f"modelengine-{cluster.name}"


def make(cluster: Path) -> None:
    for root in _roots():
        with suppress(OSError):
            # Version 2: the controllers that our children may use.
            (root / "cgroup.subtree_control").write_text("+cpuset +cpu +io +memory +hugetlb +pids")
        (root / name(cluster)).mkdir(exist_ok=True)


def folders(cluster: Path) -> list[Path]:
    """All that there is of it, children before their parents."""
    tops = [root / name(cluster) for root in _roots()]
    return [Path(path) for top in tops for path, _, _ in os.walk(top, topdown=False)]


def processes(cluster: Path) -> set[int]:
    return {int(pid) for folder in folders(cluster) for pid in _lines(folder / "cgroup.procs")}


def remove(cluster: Path) -> None:
    """With all that runs in it."""
    for _ in range(100):
        if not (left := processes(cluster)):
            break
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, 9)
        time.sleep(0.05)
    for folder in folders(cluster):
        with suppress(OSError):
            folder.rmdir()


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def _roots() -> list[Path]:
    lines = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    # A machine may have both: then version 2 has no controllers, but processes all the same.
    return [Path(fields[1]) for fields in lines if fields[2] in ("cgroup", "cgroup2")]
