"""The network namespace of a cluster: made, entered by this process, left and removed. Nothing in it reaches outside.

Whoever enters it shares one network with the API server, the node and the pods; children inherit it. Only the calling
thread moves, so enter before other threads start. All clusters use the same addresses: each has a network of its own.
"""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

NODE_IP = "172.31.0.1"
POD_CIDR = "10.244.0.0/24"
SERVICE_CIDR = "10.96.0.0/16"
DNS_IP = "10.96.0.10"
DNS_DOMAIN = "cluster.local"

_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
_HELD = Path("/run/netns")
# The way back for who entered one.
_left: list[IO[str]] = []


def path(name: str) -> Path:
    return _HELD / name


def make(name: str) -> None:
    _ip("netns", "add", name)
    inside = ["nsenter", f"--net={path(name)}", "ip"]
    for words in (
        "link set lo up",
        # A bridge without ports stands in for a network card; not every kernel has `dummy`.
        "link add node0 type bridge",
        f"addr add {NODE_IP}/24 dev node0",
        "link set node0 up",
        f"route add default via {NODE_IP}",
    ):
        subprocess.run([*inside, *words.split()], check=True, capture_output=True)


def remove(name: str) -> None:
    if path(name).exists():
        _ip("netns", "delete", name)


def names() -> list[str]:
    return sorted(entry.name for entry in _HELD.iterdir()) if _HELD.exists() else []


@contextmanager
def entered(name: str) -> Iterator[None]:
    """This thread, and all it starts, are in the namespace; then back where it was."""
    with open("/proc/thread-self/ns/net") as before, open(path(name)) as there:
        _enter(there)
        _left.append(before)
        try:
            yield
        finally:
            _left.pop()
            _enter(before)


@contextmanager
def outside() -> Iterator[None]:
    """For a while back in the network that this thread came from, where package registries are reached."""
    with open("/proc/thread-self/ns/net") as inside:
        _enter(_left[-1])
        try:
            yield
        finally:
            _enter(inside)


def _enter(namespace: IO[str]) -> None:
    if _LIBC.setns(namespace.fileno(), _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "cannot enter the network namespace")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
