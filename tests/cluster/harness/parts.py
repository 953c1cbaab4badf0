"""`python -m cluster.harness.parts`: gets all that a cluster needs, once. Called by the Makefile."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from . import binaries, containerd, images, leftovers, places

_STARTED = time.monotonic()
# What makes and loads images.
_FOR_IMAGES = (binaries.CONTAINERD, binaries.PAUSE)


def say(text: str) -> None:
    print(f"{time.monotonic() - _STARTED:6.1f} s  {text}", flush=True)


def install_packages() -> None:
    """From Debian, where root may."""
    wanted = {**binaries.FOR_CONTROL_PLANE, **binaries.FOR_NODE}
    packages = binaries.missing_packages(wanted)
    apt = binaries.which("apt-get")
    if packages and apt and os.geteuid() == 0:
        say(f"installing {' '.join(packages)}")
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for words in (["update", "-qq"], ["install", "-qq", "--no-install-recommends", *packages]):
            done = subprocess.run([apt, *words], env=env, capture_output=True, text=True)
            if done.returncode:
                raise places.Missing(f"apt-get {words[0]} failed:\n{done.stderr[-2000:]}")
    binaries.require(wanted)


def build(programs: Iterable[binaries.Binary]) -> None:
    for program in programs:
        binaries.find(program, say)


def load_images() -> None:
    leftovers.clean()
    name = f"images-{os.getpid()}"
    folder = leftovers.claim(name)
    try:
        with containerd.images_held(say) as held:
            images.prepare(folder, held, say)
    finally:
        leftovers.remove(name)


def main() -> int:
    try:
        install_packages()
        build(_FOR_IMAGES)
        # Each waits for the network or has work for one core only, half of its time.
        with ThreadPoolExecutor(1) as pool:
            rest = pool.submit(build, [binary for binary in binaries.ALL if binary not in _FOR_IMAGES])
            load_images()
            rest.result()
    except places.Missing as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    say("all parts of the cluster are there")
    return 0


if __name__ == "__main__":
    sys.exit(main())
