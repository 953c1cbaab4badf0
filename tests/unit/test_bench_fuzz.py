"""What the fuzz calls flat, and what it does not: a front door of 75 MB, looked at 250 times."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from bench.fuzz import memory

REQUESTS, STREAMS, SAMPLES = 100_000, 10_000, 250
START = 75_000_000
LARGE = 20_000_000


def samples(extra: Callable[[float], float], seed: int = 1) -> list[int]:
    """With so many bytes more at each share of the way, and what the collector has not been at yet."""
    chance = random.Random(seed)
    return [int(START + chance.uniform(0, 1_000_000) + extra(at / SAMPLES)) for at in range(SAMPLES)]


@pytest.mark.parametrize(
    "lost", [lambda share: 100 * REQUESTS * share, lambda share: 1000 * STREAMS * share], ids=["requests", "streams"]
)
def test_a_hundred_bytes_lost_with_each_request_are_found(lost: Callable[[float], float]) -> None:
    for seed in range(20):
        complaint = memory.complaint(samples(lost, seed))
        assert complaint is not None
        assert complaint.startswith("memory grew 1.0")


def test_nothing_lost_is_flat() -> None:
    for seed in range(20):
        assert memory.complaint(samples(lambda share: 0, seed)) is None


def test_what_is_kept_of_the_first_large_things_is_no_leak_and_large_things_that_are_open_are_none_either() -> None:
    assert memory.complaint(samples(lambda share: LARGE if share > 0.15 else 0)) is None
    open_now = random.Random(1)
    assert memory.complaint(samples(lambda share: LARGE if open_now.random() < 0.2 else 0)) is None


def test_what_comes_on_top_later_and_stays_is_found() -> None:
    assert memory.complaint(samples(lambda share: LARGE if share > 0.5 else 0)) is not None


def test_the_curve_has_few_points_and_few_samples_have_one_as_well() -> None:
    assert memory.curve(samples(lambda share: 100 * REQUESTS * share)).split()[:2] == ["75.7", "76.1"]
    assert len(memory.curve(samples(lambda share: 0)).split()) == memory.POINTS
    assert memory.curve([1_000_000, 2_000_000]) == "1.0 2.0"
    assert memory.growth([1_000_000, 2_000_000]) == 2
