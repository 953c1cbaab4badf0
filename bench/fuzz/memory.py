"""Is the memory of a process flat? Read from samples that were taken evenly while it worked. Pure.

An allocator may keep what was once needed, so memory also rises where nothing is lost: with the largest things that
came yet, and so ever more seldom. What is lost with each request rises for ever. So the first fifth after a warm-up is
compared to the last, each by its median, for one sample also has what just then was open.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

# Of all samples.
WARM_UP = 0.2
# Of those that come after.
COMPARED = 0.2
MOST_GROWTH = 1.05
POINTS = 25


def growth(samples: Sequence[int]) -> float:
    """How many times as large as at first the process was at last."""
    warm = samples[int(len(samples) * WARM_UP) :]
    count = max(1, int(len(warm) * COMPARED))
    return median(warm[-count:]) / median(warm[:count])


def complaint(samples: Sequence[int]) -> str | None:
    """What is wrong with it; None where it is flat."""
    grown = growth(samples)
    return None if grown <= MOST_GROWTH else f"memory grew {grown:.3f} times once it was warm, MB: {curve(samples)}"


def curve(samples: Sequence[int]) -> str:
    """The medians of up to POINTS equal parts of it, in MB."""
    return " ".join(f"{median(part) / 1e6:.1f}" for part in _parts(samples))


def _parts(samples: Sequence[int]) -> Iterator[Sequence[int]]:
    size = -(-len(samples) // POINTS)
    for at in range(0, len(samples), size):
        yield samples[at : at + size]
