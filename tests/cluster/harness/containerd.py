"""containerd: runs a node's containers and holds its images. Used by `node.py`, and by `parts.py` for the images.

Its images outlive a cluster, so one containerd at a time has them: the next one waits. Containers do not outlive it.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from . import binaries, leftovers, places
from .binaries import Say
from .processes import Process

ROOT = places.CACHE / "containerd"
PAUSE_IMAGE = "localhost/modelengine-pause:test"
_LABEL = "modelengine-key"
_CRI = 'plugins."io.containerd.grpc.v1.cri"'
_SETTINGS = """\
version = 2
root = "{root}"
state = "{folder}/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
address = "{socket}"
[{cri}]
sandbox_image = "{pause}"
# Needed where the machine does not let us lower what the kernel ends first when memory is short.
restrict_oom_score_adj = true
disable_apparmor = true
[{cri}.cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{folder}/cni"
"""


class Containerd:
    def __init__(self, folder: Path) -> None:
        self.socket = folder / "containerd.sock"
        self._ctr = ["ctr", "--address", str(self.socket), "--namespace", "k8s.io"]
        settings = folder / "containerd.toml"
        settings.write_text(_SETTINGS.format(root=ROOT, folder=folder, socket=self.socket, cri=_CRI, pause=PAUSE_IMAGE))
        self._process = Process(folder, ["containerd", "--config", str(settings)], {"PATH": binaries.SEARCH})

    def start(self) -> None:
        self._process.start()
        self._process.wait_ready(self._answers)
        self.end_containers()

    def stop(self) -> None:
        if self._process.running:
            self.end_containers()
        self._process.stop()

    def end_containers(self) -> None:
        """At once; also those that a killed run left in its books."""
        for task in self.ctr("tasks", "list", "-q").split():
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

    def set_label(self, reference: str, key: str) -> None:
        self.ctr("images", "label", reference, f"{_LABEL}={key}")

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


@contextmanager
def running(folder: Path, say: Say = print) -> Iterator[Containerd]:
    """One that answers, in a cluster's folder; waits while another cluster has the images."""
    ROOT.mkdir(parents=True, exist_ok=True)
    with ExitStack() as undo:
        lock = undo.enter_context(open(places.CACHE / "containerd.lock", "w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another cluster has a node; waiting for its end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        # The CRI plugin's notes on sandboxes of a killed run; their processes went with `leftovers`.
        shutil.rmtree(ROOT / "io.containerd.grpc.v1.cri", ignore_errors=True)
        containerd = Containerd(folder)
        undo.callback(containerd.stop)
        containerd.start()
        yield containerd


@contextmanager
def alone(say: Say = print) -> Iterator[Containerd]:
    """Without a cluster: to load images ahead of a run."""
    name = "images"
    leftovers.clean()
    folder = leftovers.claim(name)
    try:
        with running(folder, say) as containerd:
            yield containerd
    finally:
        leftovers.remove(name)
