"""What the front door is to reach beside Go's reverse proxy, and whether it did. Pure.

A ratio is taken within a round, and its median over the rounds counts. The time that a proxy adds to the first token
is what it takes beyond the direct way in the same round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench import stats
from bench.gateway.proxies import DIRECT, GO, OURS
from bench.gateway.turns import CPU_CHUNK, FIRST_P99, PEAK
from bench.stats import Rounds, Sample, Spread

MOST_OF_GO = 1.3
MOST_MB = 150.0
# Less than this is the machine's own unrest: a ratio of two such times says nothing.
LEAST_MS = 1.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """`value` is a ratio to Go's, or megabytes; at most `most` is asked for."""

    scenario: str
    title: str
    value: Spread
    most: float

    @property
    def is_met(self) -> bool:
        return self.value.median <= self.most


def judge(results: Mapping[str, Rounds]) -> list[Verdict]:
    """Every bar of each scenario that was measured on all sides; none is lost, or nothing would have been measured."""
    verdicts = []
    for scenario, rounds in results.items():
        if not {DIRECT, OURS, GO} <= rounds.keys():
            continue
        for title, most, of in _BARS:
            values = [
                of(direct, ours, go) for direct, ours, go in zip(rounds[DIRECT], rounds[OURS], rounds[GO], strict=True)
            ]
            if found := [value for value in values if value is not None]:
                verdicts.append(Verdict(scenario, title, stats.spread(found), most))
    return verdicts


def _ratio(quantity: str, direct: Sample, ours: Sample, go: Sample) -> float | None:
    return ours[quantity] / go[quantity] if quantity in ours else None


def _added(direct: Sample, ours: Sample, go: Sample) -> float | None:
    if FIRST_P99 not in ours:
        return None
    return max(ours[FIRST_P99] - direct[FIRST_P99], LEAST_MS) / max(go[FIRST_P99] - direct[FIRST_P99], LEAST_MS)


_BARS = (
    (f"{CPU_CHUNK}, ours : Go", MOST_OF_GO, lambda *of: _ratio(CPU_CHUNK, *of)),
    (f"added {FIRST_P99}, ours : Go", MOST_OF_GO, _added),
    (PEAK, MOST_MB, lambda _, ours, __: ours.get(PEAK)),
)


def render(verdicts: Sequence[Verdict]) -> str:
    lines = ["bars: median (min to max), and the most that is allowed"]
    for verdict in verdicts:
        value = verdict.value
        lines.append(
            f"  {'yes' if verdict.is_met else 'NO ':3} {verdict.scenario}: {verdict.title}: "
            f"{value.median:.2f} ({value.minimum:.2f} to {value.maximum:.2f}), at most {verdict.most:g}"
        )
    return "\n".join(lines)


def to_json(verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    return [{**asdict(verdict), "is_met": verdict.is_met} for verdict in verdicts]
