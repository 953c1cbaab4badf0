"""containerd: runs a node's containers. Used by `node.py`, and by `images.py` to load images.

What it keeps is in a store. One store has the images and outlives all clusters, but never runs a container; each node
has a copy of its own, which costs no space (hard links) and goes with its cluster. So nodes may run side by side.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from . import binaries, network, places
from .binaries import Say
from .processes import Process

IMAGES = places.CACHE / "images"
_LOCK = places.CACHE / "images.lock"
PAUSE_IMAGE = "localhost/modelengine-pause:test"
_SETTINGS = """\
version = 3
root = "{store}"
state = "{folder}/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
address = "{socket}"
[plugins."io.containerd.nri.v1.nri"]
disable = true
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{pause}"
[plugins."io.containerd.cri.v1.runtime"]
# Needed where the machine does not let us lower what the kernel ends first when memory is short.
restrict_oom_score_adj = true
# In the cluster's folder, so that they are found when they are left over.
netns_mounts_under_state_dir = true
disable_apparmor = true
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{folder}/cni"
"""


class Containerd:
    def __init__(self, folder: Path, store: Path) -> None:
        self.folder = folder
        self.socket = folder / "containerd.sock"
        programs = folder / "bin"
        if not (programs / "containerd").exists():
            binaries.link(binaries.CONTAINERD, programs)
        self._ctr = [str(programs / "ctr"), "--address", str(self.socket), "--namespace", "k8s.io"]
        (folder / "cni").mkdir(exist_ok=True)
        (folder / "cni" / "pods.conflist").write_text(json.dumps(_pod_network(folder)))
        settings = folder / "containerd.toml"
        settings.write_text(_SETTINGS.format(store=store, folder=folder, socket=self.socket, pause=PAUSE_IMAGE))
        # It finds its shim there, and what runs containers among Debian's programs.
        path = f"{programs}:{binaries.SEARCH}"
        self._process = Process(folder, [str(programs / "containerd"), "--config", str(settings)], {"PATH": path})

    def start(self) -> None:
        self._process.start()
        self._process.wait_ready(self._answers)

    def stop(self) -> None:
        """With its containers, at once."""
        with suppress(subprocess.CalledProcessError):
            for task in self.tasks():
                self.ctr("tasks", "delete", "--force", task)
        self._process.stop()

    def tasks(self) -> dict[str, int]:
        """What runs: the container's id -> its first process."""
        rows = [line.split() for line in self.ctr("tasks", "list").splitlines()[1:]]
        return {row[0]: int(row[1]) for row in rows}

    def ctr(self, *words: str) -> str:
        return subprocess.run([*self._ctr, *words], check=True, capture_output=True, text=True).stdout

    def layers(self) -> dict[str, dict[str, object]]:
        """What its images consist of: the digest of a layer's content -> how it is stored."""
        found: dict[str, dict[str, object]] = {}
        for line in self.ctr("images", "list").splitlines()[1:]:
            manifest = json.loads(self.ctr("content", "get", line.split()[2]))
            contents = json.loads(self.ctr("content", "get", manifest["config"]["digest"]))["rootfs"]["diff_ids"]
            found.update(zip(contents, manifest["layers"], strict=True))
        return found

    @contextmanager
    def importing(self) -> Iterator[IO[bytes]]:
        """An image is written into the stream, as an OCI archive."""
        pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
        argv = [*self._ctr, "images", "import", "-"]
        with subprocess.Popen(argv, stdin=pipe, stdout=nowhere, stderr=pipe) as process:
            assert process.stdin is not None
            assert process.stderr is not None
            with suppress(BrokenPipeError):
                yield process.stdin
                process.stdin.close()
            errors = process.stderr.read().decode()
        if process.returncode:
            raise RuntimeError(f"containerd did not take the image: {errors}")

    def rename(self, fresh: str, reference: str) -> None:
        """Gives an image the name of the one that it replaces, which goes."""
        self.ctr("images", "tag", "--force", fresh, reference)
        self.ctr("images", "remove", fresh)
        # The CRI plugin keeps each image under its digest too.
        rows = [line.split() for line in self.ctr("images", "list").splitlines()[1:]]
        named = {row[2] for row in rows if not row[0].startswith("sha256:")}
        for row in rows:
            if row[2] not in named:
                self.ctr("images", "remove", row[0])

    def _answers(self) -> bool:
        with suppress(subprocess.CalledProcessError):
            self.ctr("version")
            return self.socket.exists()
        return False


def _pod_network(folder: Path) -> dict[str, object]:
    addresses = {
        "type": "host-local",
        "ranges": [[{"subnet": network.POD_CIDR}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": str(folder / "addresses"),
    }
    plugins = [{"type": "ptp", "ipam": addresses}, {"type": "portmap", "capabilities": {"portMappings": True}}]
    return {"cniVersion": "0.4.0", "name": folder.name, "plugins": plugins}


@contextmanager
def running(folder: Path, store: Path) -> Iterator[Containerd]:
    """One that answers, in a cluster's folder."""
    containerd = Containerd(folder, store)
    try:
        containerd.start()
        yield containerd
    finally:
        containerd.stop()


@contextmanager
def images_held(say: Say) -> Iterator[Path]:
    """The store that has the images: nobody else reads or changes it meanwhile."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    with open(_LOCK, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("images are made for another cluster; waiting")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield IMAGES


def copy(store: Path, target: Path) -> None:
    """All but the books is linked: layers and their files are never written to."""
    subprocess.run(["cp", "--archive", "--link", str(store), str(target)], check=True)
    for book in target.glob("*/*.db"):
        linked = book.rename(book.with_suffix(".linked"))
        shutil.copyfile(linked, book)
        linked.unlink()
