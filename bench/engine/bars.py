"""What our engine is to reach beside its peers, and whether it did. Pure.

A ratio is taken within a round, of two engines that were measured minutes apart, and its median over the rounds counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench import stats
from bench.engine.points import Point
from bench.stats import Rounds, Spread

RATE, DECODE, FIRST = "tok/s", "decode tok/s", "first ms"


@dataclass(frozen=True, slots=True)
class Bar:
    """`ours` is to be `least` times as good as the best of `peers` with so many chats; more is a `goal`."""

    ours: str
    peers: Sequence[str]
    chats: Sequence[int]
    least: float
    goal: float | None = None
    quantity: str = RATE

    @property
    def title(self) -> str:
        what = "time to first token" if self.quantity == FIRST else RATE
        return f"{self.ours} : {' | '.join(self.peers)}, {what}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`decode` is the same ratio of the decode rates, for a bar of rates."""

    point: Point
    bar: Bar
    ratio: Spread
    decode: Spread | None

    @property
    def is_met(self) -> bool:
        return self.ratio.median >= self.bar.least

    @property
    def word(self) -> str:
        if not self.is_met:
            return "NO"
        return "goal" if self.bar.goal is not None and self.ratio.median >= self.bar.goal else "yes"


INT8_PEERS = ("llama.cpp Q8_0", "openvino int8", "transformers bfloat16")
BARS = (
    Bar("ours int8", ("transformers bfloat16",), (8, 32), 2.0, 3.0),
    Bar("ours bfloat16", ("transformers bfloat16",), (8, 32), 1.4),
    Bar("ours int8", ("llama.cpp Q8_0",), (1,), 1.0),
    Bar("ours int8", ("llama.cpp Q8_0",), (8, 32), 1.8),
    Bar("ours int8", ("openvino int8",), (1, 8, 32), 0.9, 1.1),
    Bar("ours int8", INT8_PEERS, (8,), 1.0, quantity=FIRST),
)


def judge(results: Mapping[Point, Rounds]) -> list[Verdict]:
    """Every bar at every point that it speaks of, as far as those engines were measured there."""
    return [
        Verdict(point, bar, ratio, within_rounds(rounds, bar, DECODE) if bar.quantity == RATE else None)
        for bar in BARS
        for point, rounds in sorted(results.items())
        if point.chats in bar.chats and (ratio := within_rounds(rounds, bar, bar.quantity)) is not None
    ]


def within_rounds(rounds: Rounds, bar: Bar, quantity: str) -> Spread | None:
    """How many times as good as the best of the peers ours was; None where one of them was not measured."""
    if not all(rounds.get(engine) for engine in (bar.ours, *bar.peers)):
        return None
    ratios = []
    for ours, *peers in zip(*(rounds[engine] for engine in (bar.ours, *bar.peers)), strict=False):
        values = [peer[quantity] for peer in peers]
        # Of a rate more is better, of a time less.
        ratios.append(min(values) / ours[quantity] if quantity == FIRST else ours[quantity] / max(values))
    return stats.spread(ratios)


HEADINGS = ("bar", "point", "least", "goal", "measured", "decode alone", "met")
GAP = "  "


def render(shape: str, verdicts: Sequence[Verdict]) -> str:
    """The table `bar / measured / met` as lines of text."""
    rows = [HEADINGS, *map(_cells, verdicts)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    note = "  ours to the best of the peers within a round, min / median / max over the rounds; the median counts"
    return "\n".join([f"bars: {shape}", note, "", *lines])


def _cells(verdict: Verdict) -> tuple[str, ...]:
    bar = verdict.bar
    return (
        bar.title,
        str(verdict.point),
        f"{bar.least:.1f}",
        "-" if bar.goal is None else f"{bar.goal:.1f}",
        _ratio(verdict.ratio),
        "-" if verdict.decode is None else _ratio(verdict.decode),
        verdict.word,
    )


def _ratio(ratio: Spread) -> str:
    return f"{ratio.minimum:.2f} / {ratio.median:.2f} / {ratio.maximum:.2f}"


def to_json(verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    return [{**asdict(verdict), "point": str(verdict.point), "met": verdict.word} for verdict in verdicts]
