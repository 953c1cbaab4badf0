"""The programs of a cluster: from an environment variable, the cache, or built by Go; and those of Debian's packages.

Versions and hashes are those of each folder's go.mod and go.sum in tests/cluster/binaries. `parts.py` gets them all
ahead of a run; what a run finds missing it builds then.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import places

Say = Callable[[str], None]


@dataclass(frozen=True)
class Binary:
    name: str
    # Each makes a program that has the last part of its name; `.` has the binary's.
    packages: tuple[str, ...] = (".",)
    # What the program is called as, where it is several in one.
    aliases: tuple[str, ...] = ()
    # Variables that a release of it is linked with.
    values: tuple[str, ...] = ()

    @property
    def variable(self) -> str:
        return f"MODELENGINE_TEST_{self.name.upper()}"

    @property
    def source(self) -> Path:
        return places.SOURCES / self.name

    @property
    def folder(self) -> Path:
        """Where the built one is kept."""
        made_from = [path for path in self.source.iterdir() if path.suffix in (".go", ".mod", ".sum")]
        return places.CACHE / "binaries" / f"{self.name}-{places.fingerprint(made_from, *self.packages, *self.values)}"


COMPONENTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "kubectl")
# As in its go.mod. Unset, the API server says v0.0.0 and no chart would install.
VERSION = ("1", "34", "4")
_SAID = {"gitMajor": VERSION[0], "gitMinor": VERSION[1], "gitVersion": f"v{'.'.join(VERSION)}"}
_SAYERS = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
KUBE = Binary(
    "kube",
    aliases=COMPONENTS,
    values=tuple(f"{package}.{name}={value}" for package in _SAYERS for name, value in _SAID.items()),
)
HELM = Binary("helm", packages=("helm.sh/helm/v4/cmd/helm",))
COREDNS = Binary("coredns", packages=("github.com/coredns/coredns",))
_CONTAINERD = "github.com/containerd/containerd/v2/cmd"
CONTAINERD = Binary(
    "containerd",
    packages=(f"{_CONTAINERD}/containerd", f"{_CONTAINERD}/ctr", f"{_CONTAINERD}/containerd-shim-runc-v2"),
)
PAUSE = Binary("pause")
ALL = (KUBE, HELM, COREDNS, CONTAINERD, PAUSE)

# Command -> Debian package that has it.
FOR_CONTROL_PLANE = {"openssl": "openssl", "ip": "iproute2", "nsenter": "util-linux"}
FOR_NODE = {
    "runc": "runc",
    "/usr/lib/cni/ptp": "containernetworking-plugins",
    "buildah": "buildah",
    "mmdebstrap": "mmdebstrap",
    "/usr/share/keyrings/debian-archive-keyring.gpg": "debian-archive-keyring",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ethtool": "ethtool",
    "socat": "socat",
}
# Where Debian keeps what only root runs; not on everybody's PATH.
SEARCH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])


def missing_packages(wanted: dict[str, str]) -> list[str]:
    return sorted({package for command, package in wanted.items() if not _there(command)})


def require(wanted: dict[str, str]) -> None:
    if os.geteuid() != 0:
        raise places.Missing("a test cluster needs root (network namespaces, containers): run this as root")
    if packages := missing_packages(wanted):
        raise places.Missing(f"programs are missing; on Debian, as root: apt-get install {' '.join(packages)}")


def _there(command: str) -> bool:
    return os.path.exists(command) if command.startswith("/") else which(command) is not None


def which(command: str) -> str | None:
    return shutil.which(command, path=SEARCH)


def find(binary: Binary, say: Say = print) -> Path:
    """The path of the program; builds it where there is none."""
    if given := os.environ.get(binary.variable):
        if not os.access(given, os.X_OK):
            raise places.Missing(f"{binary.variable} is {given}, which is no program")
        return Path(given)
    path = binary.folder / binary.name
    if not path.exists():
        _build(binary, path, say)
    return path


def link(binary: Binary, folder: Path) -> None:
    """Puts the program into `folder` under each name that it answers to."""
    path = find(binary)
    folder.mkdir(exist_ok=True)
    for alias in binary.aliases:
        (folder / alias).symlink_to(path)
    if not binary.aliases:
        for package in binary.packages:
            name = binary.name if package == "." else package.rpartition("/")[2]
            (folder / name).symlink_to(path.with_name(name))


def _build(binary: Binary, path: Path, say: Say) -> None:
    go = shutil.which("go")
    if go is None:
        raise places.Missing(
            f"{binary.name} is not built and there is no Go to build it; install Go 1.24 or newer "
            f"(it fetches the version it needs), or set {binary.variable} to the program"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.parent / "lock", "w") as lock:
        # Two runs at once build it once.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            return
        say(f"building {binary.name} (once; kept in {path.parent})")
        fresh = path.parent / "new"
        fresh.mkdir(exist_ok=True)
        flags = " ".join(["-s -w", *(f"-X {value}" for value in binary.values)])
        argv = [go, "build", "-trimpath", "-ldflags", flags, "-o", f"{fresh}/", *binary.packages]
        done = subprocess.run(argv, cwd=binary.source, env=_environment(binary), capture_output=True, text=True)
        if done.returncode:
            raise places.Missing(f"{binary.name} could not be built by Go:\n{done.stderr[-3000:]}")
        for program in sorted(fresh.iterdir(), key=lambda program: program.name == path.name):
            # The one that is looked for comes last.
            program.rename(path.with_name(program.name))
        fresh.rmdir()


def _environment(binary: Binary) -> dict[str, str]:
    # The pause program runs in an image that has nothing else.
    static = {"CGO_ENABLED": "0"} if binary is PAUSE else {}
    return {**os.environ, "GOFLAGS": "-buildvcs=false -mod=readonly", "GOWORK": "off", **static}
