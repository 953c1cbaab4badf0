"""The arithmetic of the benchmarks: spreads over rounds, percentiles, rounds that take turns. Pure.

A sample is what one round of one case gave, by quantity; the name of a quantity holds its unit. What is compared is
compared within a round, so that a machine that grows slower between two rounds does not look like a difference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Sample = Mapping[str, float]
# For each case, one sample per round.
Rounds = Mapping[str, Sequence[Sample]]


@dataclass(frozen=True, slots=True)
class Spread:
    minimum: float
    median: float
    maximum: float


def spread(values: Sequence[float]) -> Spread:
    """The least, the middle and the greatest; of an even number the mean of the middle two."""
    ordered = sorted(values)
    half = len(ordered) // 2
    median = ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
    return Spread(ordered[0], median, ordered[-1])


def percentile(values: Sequence[float], percent: float) -> float:
    """The least value that `percent` of all values do not exceed: one that was really measured (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def take_turns(cases: Mapping[str, Callable[[], Sample]], rounds: int) -> dict[str, list[Sample]]:
    """Measures every case once per round, A B C, A B C, and gives each case's samples in the order of the rounds."""
    samples: dict[str, list[Sample]] = {case: [] for case in cases}
    for _ in range(rounds):
        for case, measure in cases.items():
            samples[case].append(measure())
    return samples


def by_quantity(samples: Sequence[Sample]) -> dict[str, list[float]]:
    """The values of each quantity over the rounds, in the order in which the quantities first came."""
    quantities = list(dict.fromkeys(quantity for sample in samples for quantity in sample))
    return {quantity: [sample[quantity] for sample in samples if quantity in sample] for quantity in quantities}


def per(amount: float, count: float) -> float:
    """`amount` for each of `count`; not a number where there was none, so that an empty round shows."""
    return amount / count if count else math.nan
