"""Texts that wait to become vectors or scores, and which of them share the next step. Integers, no torch.

Rows of like length go together, because the shorter ones are filled up to the longest. A request of two thousand texts
must not keep one of a single text waiting: the steps go in turn to the oldest request and to the one with the least
left to do, and what is free in a step is filled with the others'.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from modelengine import errors

# What a row is filled up to may be twice its length.
MAX_FILL = 2
MAX_ROWS = 256

# A vector as the bytes of its float32s, or a score.
Result = bytes | float
Outcome = Sequence[Result] | errors.ModelEngineError


@dataclass(frozen=True, slots=True)
class Row:
    """One text, or a query with a document, as the model takes it. The first `skipped` tokens don't count in the
    vector. `dimensions` None keeps all of it; `normalize` is what to do with the vector or score at the end."""

    token_ids: array[int]
    type_ids: array[int] | None = None
    skipped: int = 0
    dimensions: int | None = None
    normalize: bool = True


@dataclass(eq=False, slots=True)
class Job:
    """One request. `deliver` is called once, from the step thread, with the results in the order of the rows."""

    rows: Sequence[Row]
    deliver: Callable[[Outcome], None]
    results: list[Result | None] = field(init=False)
    # The rows that are still to do, as (minus the length, number): the longest first.
    pending: list[tuple[int, int]] = field(init=False)
    # Tokens of those rows, and rows without a result.
    tokens_pending: int = field(init=False)
    left: int = field(init=False)

    def __post_init__(self) -> None:
        self.results = [None] * len(self.rows)
        self.pending = sorted((-len(row.token_ids), i) for i, row in enumerate(self.rows))
        self.tokens_pending = sum(len(row.token_ids) for row in self.rows)
        self.left = len(self.rows)

    @property
    def has_begun(self) -> bool:
        return len(self.pending) < len(self.rows)

    def take(self, longest: int, count: int) -> list[int]:
        """Takes at most `count` pending rows, by their numbers, that may be filled up to `longest`."""
        begin = bisect_left(self.pending, (-longest, 0))
        end = bisect_left(self.pending, (1 - -(-longest // MAX_FILL), 0))
        taken = self.pending[begin : min(end, begin + count)]
        del self.pending[begin : begin + len(taken)]
        self.tokens_pending += sum(minus_length for minus_length, _ in taken)
        return [i for _, i in taken]


@dataclass(frozen=True, slots=True)
class Place:
    """A row in a step: of which request, and its number there."""

    job: Job
    index: int

    @property
    def row(self) -> Row:
        return self.job.rows[self.index]


class Batches:
    """The requests that are in work, in the order they came, and the next step of them."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self._is_oldest_s_turn = True

    def add(self, job: Job) -> None:
        self.jobs.append(job)

    def remove(self, job: Job) -> None:
        if job in self.jobs:
            self.jobs.remove(job)

    def plan(self, step_tokens: int) -> list[Place]:
        """The rows of the next step, which are taken for done; at least one where any is left. `step_tokens` bounds
        them with what they are filled up with."""
        jobs = [job for job in self.jobs if job.pending]
        if not jobs:
            return []
        first = jobs[0] if self._is_oldest_s_turn else min(jobs, key=lambda job: job.tokens_pending)
        self._is_oldest_s_turn = not self._is_oldest_s_turn
        longest = -first.pending[0][0]
        space = min(max(1, step_tokens // max(1, longest)), MAX_ROWS)
        places: list[Place] = []
        for job in [first, *(job for job in jobs if job is not first)]:
            places += [Place(job, i) for i in job.take(longest, space - len(places))]
            if len(places) == space:
                break
        return places
