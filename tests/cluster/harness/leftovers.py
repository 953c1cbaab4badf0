"""A cluster's folder and how all that belongs to it goes: after a run, and before the next one where a run was killed.

The folder has the pid of who made it and those of its processes; mounts are known by lying under it, and the network
namespace by its name. Only these are touched.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import cgroups, network, places, traces
from .processes import started_at


def claim(name: str) -> Path:
    """Makes the folder of a cluster that this process answers for."""
    folder = places.CLUSTERS / name
    with _one_at_a_time():
        folder.mkdir(parents=True, mode=0o700)
        (folder / "owner").write_text(f"{os.getpid()} {started_at(os.getpid())}")
    return folder


def clean() -> None:
    """Removes clusters whose owner is gone."""
    if not places.CLUSTERS.exists():
        return
    with _one_at_a_time():
        dead = [folder.name for folder in places.CLUSTERS.iterdir() if folder.is_dir() and not _alive(folder / "owner")]
        for name in dead:
            remove(name)


def remove(name: str) -> None:
    folder = places.CLUSTERS / name
    for record in (folder / "pids").glob("*"):
        if _alive(record):
            _end(int(record.read_text().split()[0]))
    for pid in shims(folder):
        _end(pid)
    cgroups.remove(folder)
    for target in reversed(mounts(folder)):
        subprocess.run(["umount", "--lazy", target], check=False, capture_output=True)
    network.remove(name)
    traces.remove(folder)
    # Through what is still mounted we would delete somebody else's files.
    subprocess.run(["rm", "-rf", "--one-file-system", str(folder)], check=False, capture_output=True)
    traces.restore_kernel_settings()


def shims(folder: Path) -> list[int]:
    """The processes that hold containers for a containerd of this cluster; they outlive it by design."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if "containerd-shim" in words[0] and any(word.startswith(f"{folder}/") for word in words):
                found.append(int(entry.name))
    return found


def mounts(folder: Path) -> list[str]:
    """Mount points under the folder, in the order in which they were made."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [point for point in points if point.startswith(f"{folder}/")]


def _alive(record: Path) -> bool:
    try:
        pid, started = map(int, record.read_text().split())
    except (OSError, ValueError):
        return False
    return started_at(pid) == started


def _end(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    for _ in range(100):
        if not started_at(pid):
            return
        time.sleep(0.05)


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """A folder that is being made has no owner yet; who cleans up must not see it so."""
    places.CLUSTERS.mkdir(parents=True, exist_ok=True)
    with open(places.CLUSTERS / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
