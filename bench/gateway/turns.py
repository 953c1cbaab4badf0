"""One measurement of one proxy: open streams, or short answers one after the other."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import processes, stats
from bench.gateway.proxies import OPENAI, PROXIES, Way
from bench.processes import BenchFailed
from bench.stats import Sample

PAUSE_S = 0.4
# So many streams begin in a second.
STREAMS_PER_S = 500
SHORT_CONNECTIONS, SHORT_PARTS, SHORT_S = 64, 2, 3.0
# A proxy that can't keep up is waited for, within bounds.
SLACK_S = 120.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """`streams` open at once of `parts` parts each; None: short whole answers on SHORT_CONNECTIONS."""

    streams: int | None
    parts: int = SHORT_PARTS

    def __str__(self) -> str:
        if self.streams is None:
            return f"short answers, {SHORT_CONNECTIONS} connections"
        return f"{self.streams:,} open streams"

    @property
    def flags(self) -> list[str]:
        if self.streams is None:
            return [f"-streams={SHORT_CONNECTIONS}", f"-parts={self.parts}", f"-seconds={SHORT_S}s"]
        return [f"-streams={self.streams}", f"-parts={self.parts}", f"-ramp={self.streams / STREAMS_PER_S}s"]

    @property
    def seconds(self) -> float:
        return SHORT_S if self.streams is None else self.streams / STREAMS_PER_S + self.parts * PAUSE_S


def take(proxy: str, scenario: Scenario, binary: Path, engine: int) -> Sample:
    """What the proxy used for the scenario. Raises BenchFailed when an answer was not right."""
    with PROXIES[proxy](binary, engine) as way:
        found, used = run_load(way, scenario, binary)
        peak = peak_mb(way)
    if found["lost"]:
        raise BenchFailed(
            f"{proxy}, {scenario}: {found['lost']} of {found['requests']} are not right: {found['broken']}"
        )
    return sample(scenario, found, used, peak)


@dataclass(frozen=True, slots=True)
class Used:
    """CPU of the proxy's process, and what came through it meanwhile."""

    seconds: float
    chunks: int


def run_load(way: Way, scenario: Scenario, binary: Path) -> tuple[Mapping[str, Any], Used]:
    """What the load found, and what the proxy used: while all streams were open, where there was such a time."""
    argv = [str(binary), "load", f"-url={way.url}", f"-openai={str(way.path == OPENAI).lower()}", *scenario.flags]
    moments = [("begun", 0, cpu_s(way))]
    found: dict[str, Any] = {}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as load:
        late = threading.Timer(scenario.seconds + SLACK_S, load.kill)
        late.start()
        try:
            assert load.stdout is not None
            for line in load.stdout:
                found = json.loads(line)
                if "mark" in found:
                    moments.append((found["mark"], found["chunks"], cpu_s(way)))
            if load.wait():
                raise BenchFailed(f"{scenario}: the load failed, or took {SLACK_S:g} s longer than it should")
        finally:
            late.cancel()
            load.kill()
    return found, used_between([*moments, ("over", found["chunks"], cpu_s(way))])


def used_between(moments: Sequence[tuple[str, int, float]]) -> Used:
    """From when all streams were open until the first one ended; from begin to end, where they never all were."""
    names = [name for name, _, _ in moments]
    first, last = (1, 2) if names[1:3] == ["open", "ended"] else (0, -1)
    (_, chunks_then, cpu_then), (_, chunks, cpu) = moments[first], moments[last]
    return Used(cpu - cpu_then, chunks - chunks_then)


def sample(scenario: Scenario, found: Mapping[str, Any], used: Used, peak: float) -> Sample:
    """By quantity. The proxy's start is not in its CPU time, but in its memory."""
    if scenario.streams is None:
        return {
            CPU_REQUEST: stats.per(used.seconds, used.chunks) * 1e6,
            "requests/s": stats.per(found["requests"], found["seconds"]),
            "p99 ms": found["whole_p99"],
        }
    return {
        CPU_CHUNK: stats.per(used.seconds, used.chunks) * 1e6,
        FIRST_P50: found["first_p50"],
        FIRST_P99: found["first_p99"],
        PEAK: peak,
    }


CPU_REQUEST, CPU_CHUNK = "CPU us/request", "CPU us/chunk"
FIRST_P50, FIRST_P99, PEAK = "first p50 ms", "first p99 ms", "peak MB"


def cpu_s(way: Way) -> float:
    return 0.0 if way.pid is None else processes.cpu_s(way.pid)


def peak_mb(way: Way) -> float:
    """The most memory that the process had so far."""
    if way.pid is None:
        return 0.0
    line = next(line for line in Path(f"/proc/{way.pid}/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / 1e6
