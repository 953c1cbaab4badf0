"""What a node's parts write outside of their cluster's folder, and how it goes. Called by `leftovers.py` and `node.py`.

containerd, its CNI library and the kubelet have no setting for these. Files are known by the ids of the containers that
the cluster ran, so nothing of another containerd on this machine is touched.
"""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from . import places

# A kubelet sets these at its start, for the whole machine.
_KERNEL = tuple(Path("/proc/sys") / name for name in ("vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops"))
_KEPT = places.CACHE / "kernel-settings.json"
_LOGS = Path("/var/log/containers")
_ADDRESSES = Path("/var/lib/cni/results")
_RUNC = Path("/run/containerd/runc/k8s.io")


def remove(cluster: Path) -> None:
    """Of all containers of a cluster, which have ended."""
    for bootstrap in (cluster / "containerd").glob("io.containerd.runtime.v2.task/k8s.io/*/bootstrap.json"):
        socket = json.loads(bootstrap.read_text())["address"].removeprefix("unix://")
        Path(socket).unlink(missing_ok=True)
    for name in container_ids(cluster):
        shutil.rmtree(_RUNC / name, ignore_errors=True)
        for path in _ADDRESSES.glob(f"*-{name}-*"):
            path.unlink(missing_ok=True)
    for path in links(cluster):
        path.unlink(missing_ok=True)


def found(cluster: Path, ids: list[str]) -> list[Path]:
    """What is there of these containers."""
    known = [path for name in ids for path in (*_ADDRESSES.glob(f"*-{name}-*"), *_RUNC.glob(name))]
    return [*known, *links(cluster)]


def container_ids(cluster: Path) -> list[str]:
    """Sandboxes too."""
    return [path.name for path in (cluster / "images" / "io.containerd.grpc.v1.cri").glob("*/*")]


def links(cluster: Path) -> list[Path]:
    """To the logs of its containers."""
    found = [path for path in _LOGS.glob("*.log") if path.is_symlink()]
    return [path for path in found if str(path.readlink()).startswith(f"{cluster}/")]


def keep_kernel_settings() -> None:
    """Before a kubelet starts: the first of several that run at once sees what the machine had."""
    with _held():
        if not _KEPT.exists():
            _KEPT.write_text(json.dumps({str(path): path.read_text() for path in _KERNEL}))


def restore_kernel_settings() -> None:
    """After a cluster's end; the last one puts them back."""
    with _held():
        if not _KEPT.exists() or any(places.CLUSTERS.glob("*/pids/kubelet")):
            return
        for path, value in json.loads(_KEPT.read_text()).items():
            # Not every machine lets us, and then the kubelet could not change it either.
            with suppress(OSError):
                Path(path).write_text(value)
        _KEPT.unlink()


@contextmanager
def _held() -> Iterator[None]:
    with open(places.CACHE / "kernel-settings.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
