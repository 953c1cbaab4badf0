"""One measurement of one proxy: open streams, or short answers one after the other."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import processes, stats
from bench.gateway.proxies import OPENAI, PROXIES, Way
from bench.processes import BenchFailed
from bench.stats import Sample

PAUSE_S = 0.4
# So many streams begin in a second.
STREAMS_PER_S = 1000
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
        before = cpu_s(way)
        found = run_load(way, scenario, binary)
        used = cpu_s(way) - before
        peak = peak_mb(way)
    if found["lost"]:
        raise BenchFailed(
            f"{proxy}, {scenario}: {found['lost']} of {found['requests']} are not right: {found['broken']}"
        )
    return sample(scenario, found, used, peak)


def run_load(way: Way, scenario: Scenario, binary: Path) -> Mapping[str, Any]:
    argv = [str(binary), "load", f"-url={way.url}", f"-openai={str(way.path == OPENAI).lower()}", *scenario.flags]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=scenario.seconds + SLACK_S, check=True)
    except subprocess.TimeoutExpired as late:
        raise BenchFailed(f"{scenario} took {SLACK_S:g} s longer than they should") from late
    except subprocess.CalledProcessError as failure:
        raise BenchFailed(f"the load failed:\n{processes.last_lines(failure.stderr)}") from failure
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def sample(scenario: Scenario, found: Mapping[str, Any], used_s: float, peak: float) -> Sample:
    """By quantity. The proxy's start is not in its CPU time, but in its memory."""
    if scenario.streams is None:
        return {
            CPU_REQUEST: stats.per(used_s, found["requests"]) * 1e6,
            "requests/s": stats.per(found["requests"], found["seconds"]),
            "p99 ms": found["whole_p99"],
        }
    return {
        CPU_CHUNK: stats.per(used_s, found["chunks"]) * 1e6,
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
