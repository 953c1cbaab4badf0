"""What `doctor` thinks of what it found: values in, one line out, with the fix where something is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from modelengine.cli import tables

OLDEST_PYTHON = (3, 11)
# The demo model needs a tenth of this; below it no other model is worth trying.
MEMORY_BYTES = 2 * 2**30
DISK_BYTES = 10 * 2**30


class State(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    state: State
    found: str
    fix: str = ""

    @property
    def record(self) -> dict[str, str]:
        return {"name": self.name, "state": str(self.state), "found": self.found, "fix": self.fix}


def python(version: Sequence[int]) -> Check:
    found = ".".join(map(str, version[:3]))
    if tuple(version[:2]) < OLDEST_PYTHON:
        return Check("python", State.FAIL, found, "install Python 3.11 or newer")
    return Check("python", State.OK, found)


def memory(available_bytes: int) -> Check:
    found = f"{tables.size(available_bytes)} available"
    if available_bytes < MEMORY_BYTES:
        return Check("memory", State.WARN, found, "raise the container's limit, or end other programs")
    return Check("memory", State.OK, found)


def cores(usable: int, present: int) -> Check:
    found = f"{usable} of {present} usable"
    if usable < 2:
        return Check("cores", State.WARN, found, "raise the container's CPU limit: one core serves slowly")
    return Check("cores", State.OK, found)


def part(extra: str, missing: Sequence[str]) -> Check:
    """An optional part of the package: without it the client still works."""
    if missing:
        fix = f"to run `up` here: pip install 'modelengine[{extra}]'"
        return Check(extra, State.WARN, f"not installed ({', '.join(missing)})", fix)
    return Check(extra, State.OK, "installed")


def torch(report: Mapping[str, Any] | None, failure: str) -> Check:
    """`report` comes from a process that imported torch, `failure` from one that could not."""
    if report is None:
        return Check("torch", State.FAIL, failure, "reinstall it: pip install --force-reinstall 'modelengine[engine]'")
    return Check("torch", State.OK, f"{report['torch']} on {report['device']}")


def port(number: int, listener: str | None, is_name_server: bool) -> Check:
    name = f"port {number}"
    if listener is None:
        return Check(name, State.OK, "free")
    if is_name_server:
        return Check(name, State.OK, listener)
    return Check(name, State.FAIL, f"taken by {listener}", "stop it, or choose another: modelengine up --port N")


def name_server(address: str, info: Mapping[str, Any] | None, failure: str) -> Check:
    if info is None:
        return Check("name server", State.WARN, failure, "start one: modelengine up; or set MODELENGINE_HOST")
    return Check("name server", State.OK, f"{address}, version {info.get('version')}, {info.get('names')} names")


def disk(folder: str, free_bytes: int) -> Check:
    found = f"{tables.size(free_bytes)} free for {folder}"
    if free_bytes < DISK_BYTES:
        return Check("disk", State.WARN, found, "make room, or set HF_HOME to a larger disk before `pull`")
    return Check("disk", State.OK, found)


def hub(endpoint: str, failure: str | None) -> Check:
    if failure is not None:
        return Check("hub", State.FAIL, f"{endpoint}: {failure}", "set HF_ENDPOINT to a mirror, or use local folders")
    return Check("hub", State.OK, f"{endpoint} answers")
