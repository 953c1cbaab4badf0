"""containerd: runs a node's containers and holds its images. Used by `node.py`, and by `parts.py` for the images.

Its images outlive a cluster, so one containerd at a time has them: the next one waits. Containers do not outlive it.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from . import binaries, leftovers, network, places
from .binaries import Say
from .processes import Process

STORE = places.CACHE / "containerd"
PAUSE_IMAGE = "localhost/modelengine-pause:test"
_LABEL = "modelengine-key"
_CRI = 'plugins."io.containerd.grpc.v1.cri"'
_SETTINGS = """\
version = 2
root = "{store}"
state = "{folder}/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
address = "{socket}"
[{cri}]
sandbox_image = "{pause}"
# Needed where the machine does not let us lower what the kernel ends first when memory is short.
restrict_oom_score_adj = true
# In the cluster's folder, so that they are found when they are left over.
netns_mounts_under_state_dir = true
disable_apparmor = true
[{cri}.cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{folder}/cni"
"""


class Containerd:
    def __init__(self, folder: Path, store: Path) -> None:
        self.folder = folder
        self.socket = folder / "containerd.sock"
        self._ctr = ["ctr", "--address", str(self.socket), "--namespace", "k8s.io"]
        (folder / "cni").mkdir()
        (folder / "cni" / "pods.conflist").write_text(json.dumps(_pod_network(folder)))
        settings = folder / "containerd.toml"
        settings.write_text(
            _SETTINGS.format(store=store, folder=folder, socket=self.socket, cri=_CRI, pause=PAUSE_IMAGE)
        )
        self._process = Process(folder, ["containerd", "--config", str(settings)], {"PATH": binaries.SEARCH})

    def start(self) -> None:
        self._process.start()
        self._process.wait_ready(self._answers)
        self.end_containers()

    def stop(self) -> None:
        if self._process.running:
            self.end_containers()
        self._process.stop()

    def tasks(self) -> dict[str, int]:
        """What runs: the container's id -> its first process."""
        rows = [line.split() for line in self.ctr("tasks", "list").splitlines()[1:]]
        return {row[0]: int(row[1]) for row in rows}

    def end_containers(self) -> None:
        """At once; also those that a killed run left in its books."""
        for task in self.tasks():
            with suppress(subprocess.CalledProcessError):
                self.ctr("tasks", "delete", "--force", task)
        if containers := self.ctr("containers", "list", "-q").split():
            self.ctr("containers", "delete", *containers)

    def ctr(self, *words: str) -> str:
        return subprocess.run([*self._ctr, *words], check=True, capture_output=True, text=True).stdout

    def label_of(self, reference: str) -> str:
        """The key that the image was loaded with; empty: it is not there."""
        for line in self.ctr("images", "list", f"name=={reference}").splitlines()[1:]:
            for label in line.split()[-1].split(","):
                if label.startswith(f"{_LABEL}="):
                    return label.removeprefix(f"{_LABEL}=")
        return ""

    def rename(self, fresh: str, reference: str, key: str) -> None:
        """Gives a loaded image the name of the one that it replaces, which goes."""
        self.ctr("images", "tag", "--force", fresh, reference)
        self.ctr("images", "label", reference, f"{_LABEL}={key}")
        self.ctr("images", "remove", fresh)
        # The CRI plugin keeps each image under its digest too.
        rows = [line.split() for line in self.ctr("images", "list").splitlines()[1:]]
        named = {row[2] for row in rows if not row[0].startswith("sha256:")}
        for row in rows:
            if row[2] not in named:
                self.ctr("images", "remove", row[0])

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
def running(folder: Path, say: Say = print, store: Path = STORE) -> Iterator[Containerd]:
    """One that answers, in a cluster's folder; waits while another cluster has the store of images."""
    store.mkdir(parents=True, exist_ok=True)
    with ExitStack() as undo:
        lock = undo.enter_context(open(store / "lock", "w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another cluster has a node; waiting for its end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        # The CRI plugin's notes on sandboxes of a killed run; their processes went with `leftovers`.
        shutil.rmtree(store / "io.containerd.grpc.v1.cri", ignore_errors=True)
        containerd = Containerd(folder, store)
        undo.callback(containerd.stop)
        containerd.start()
        yield containerd


@contextmanager
def alone(say: Say = print) -> Iterator[Containerd]:
    """Without a cluster: to load images ahead of a run."""
    name = f"images-{os.getpid()}"
    leftovers.clean()
    folder = leftovers.claim(name)
    (folder / "logs").mkdir()
    try:
        with running(folder, say) as containerd:
            yield containerd
    finally:
        leftovers.remove(name)
