"""The machine that a benchmark ran on: without it, and without knowing what else ran there, no number means much."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

CPU_FACTS = Path("/proc/cpuinfo")
# Above this, something else is running: on a small machine it changes every number.
QUIET_LOAD = 0.5
LIBRARIES = ("modelengine", "torch", "transformers", "uvicorn", "uvloop", "fastapi", "aiohttp", "httpx2")


@dataclass(frozen=True, slots=True)
class Host:
    """`load` is the average of the last 1, 5 and 15 minutes, taken before the first benchmark."""

    cores: int
    cpu: str
    load: tuple[float, float, float]
    versions: dict[str, str]


def look() -> Host:
    return Host(cores(), _cpu(), os.getloadavg(), {"python": platform.python_version(), **_versions(LIBRARIES)})


def describe(host: Host) -> list[str]:
    """The first lines of the report, a warning among them where the machine is busy."""
    lines = [
        f"machine   {host.cores} cores, {host.cpu}",
        "load      " + ", ".join(f"{load:.2f}" for load in host.load) + " (1, 5, 15 minutes)",
        "versions  " + ", ".join(f"{name} {version}" for name, version in host.versions.items()),
    ]
    return lines + warnings(host.load)


def warnings(load: Sequence[float]) -> list[str]:
    if load[0] <= QUIET_LOAD:
        return []
    return [f"WARNING   the load is {load[0]:.2f}, above {QUIET_LOAD}: others use this machine, the numbers are noisy"]


def cpu_model(facts: Iterable[str]) -> str | None:
    """The model's name in the lines of /proc/cpuinfo; None where they do not say it."""
    for line in facts:
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return None


def cores() -> int:
    """The cores that this process may use, not those of the machine: as the engine counts."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu() -> str:
    try:
        found = cpu_model(CPU_FACTS.read_text().splitlines())
    except OSError:
        found = None
    return found or platform.processor() or platform.machine()


def _versions(names: Sequence[str]) -> dict[str, str]:
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "missing"
    return versions
