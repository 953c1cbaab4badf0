"""Programs that tests need and that Debian's packages bring: found, installed where root may, or named as missing."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

INSTALL_S = 600


def program(command: str, package: str) -> str:
    """The program's path. Fails the test, saying what to do, where it is not there and can't be installed."""
    if shutil.which(command) is None:
        _install(command, package)
    found = shutil.which(command)
    assert found is not None, f"the package {package} is installed, but has no {command}"
    return found


def _install(command: str, package: str) -> None:
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        pytest.fail(f"{command} is missing; on Debian, as root: apt-get install {package}", pytrace=False)
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update", "-qq"], ["install", "-qq", "--no-install-recommends", package]):
        done = subprocess.run([apt, *words], env=env, capture_output=True, text=True, timeout=INSTALL_S)
        if done.returncode:
            pytest.fail(f"{command} is missing, and apt-get {words[0]} failed:\n{done.stderr[-2000:]}", pytrace=False)
