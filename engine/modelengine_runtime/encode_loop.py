"""The step thread of an engine that makes vectors or scores: plan, compute, deliver.

The twin of `loop.py`, without sequences that grow: a row takes one step. Others only send it mail, so that no HTTP
answer waits for a step.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from modelengine import errors
from modelengine_runtime.batches import Batches, Job, Outcome, Place, Result, Row
from modelengine_runtime.loop import Counters
from modelengine_runtime.step_thread import StepThread

log = logging.getLogger(__name__)

# A request that is aborted, or that comes while another runs, waits for one step: it should take about so long.
STEP_S = 0.25
FIRST_STEP_TOKENS = 1024
MIN_STEP_TOKENS = 128


class Runner(Protocol):
    """What the loop needs of a model. Computing the same rows again after a failure must be harmless."""

    def compute(self, rows: Sequence[Row]) -> Sequence[Result]: ...


@dataclass(slots=True)
class Work:
    """What the steps that went well came to, since the start; the tokens without what fills rows up."""

    steps: int = 0
    seconds: float = 0.0
    rows: int = 0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Load:
    """How full the engine is now; `rows` and `tokens` count since its start, the tokens without what fills them up."""

    running: int
    waiting: int
    rows: int
    tokens: int


class EncodeLoop(StepThread):
    def __init__(self, runner: Runner, max_step_tokens: int, clock: Callable[[], float] = time.perf_counter) -> None:
        super().__init__("encode-loop")
        self.counters = Counters()
        self.work = Work()
        self._batches = Batches()
        self._runner = runner
        self._max_step_tokens = max_step_tokens
        self._step_tokens = min(FIRST_STEP_TOKENS, max_step_tokens)
        self._clock = clock

    @property
    def running(self) -> int:
        return sum(job.has_begun for job in tuple(self._batches.jobs))

    @property
    def waiting(self) -> int:
        return sum(not job.has_begun for job in tuple(self._batches.jobs)) + self._mail.qsize()

    @property
    def load(self) -> Load:
        """Thread-safe, if not of one moment."""
        return Load(self.running, self.waiting, self.work.rows, self.work.tokens)

    def submit(self, job: Job) -> None:
        """Hands the request over; a dead thread reaches it as an outcome. Thread-safe."""
        self._hand_over(lambda: self._batches.add(job))

    def abort(self, job: Job) -> None:
        """Gives the request up. Harmless for one that has ended. Thread-safe."""
        self._mail.put(lambda: self._abort(job))

    def turn(self, wait: bool) -> None:
        places = self._batches.plan(self._step_tokens)
        if places:
            self._step(places)
        self._read_mail(wait and not places)

    def _step(self, places: Sequence[Place]) -> None:
        began = self._clock()
        try:
            results = self._runner.compute([place.row for place in places])
        except Exception as failure:
            self._step_each(places, failure)
            return
        self._took(places, self._clock() - began)
        for place, result in zip(places, results, strict=True):
            self._settle(place, result)

    def _step_each(self, places: Sequence[Place], failure: Exception) -> None:
        """Runs the rows of a failed step alone, so that the error reaches only its request."""
        if len(places) == 1:
            self._fail(places[0].job, failure)
            return
        log.warning("a step of %d texts failed, running each alone: %r", len(places), failure)
        for place in places:
            if place.job in self._batches.jobs:
                self._step([place])

    def _took(self, places: Sequence[Place], seconds: float) -> None:
        """Counts the step, and fits the next ones to STEP_S."""
        lengths = [len(place.row.token_ids) for place in places]
        self.work.steps += 1
        self.work.seconds += seconds
        self.work.rows += len(lengths)
        self.work.tokens += sum(lengths)
        fitting = int(len(lengths) * max(lengths) * STEP_S / max(seconds, 1e-6))
        # A short step says little of a long one.
        bounded = min(fitting, 2 * self._step_tokens, self._max_step_tokens)
        self._step_tokens = max(bounded, self._step_tokens // 2, MIN_STEP_TOKENS)

    def _settle(self, place: Place, result: Result) -> None:
        job = place.job
        job.results[place.index] = result
        job.left -= 1
        if not job.left:
            self.counters.finished += 1
            self._end(job, [done for done in job.results if done is not None])

    def _fail(self, job: Job, failure: Exception) -> None:
        log.error("a request of %d texts failed", len(job.rows), exc_info=failure)
        self.counters.failed += 1
        self._end(job, errors.RequestFailed(f"the engine failed on this request: {failure}"))

    def _end(self, job: Job, outcome: Outcome) -> None:
        self._batches.remove(job)
        job.deliver(outcome)

    def _abort(self, job: Job) -> None:
        if job in self._batches.jobs:
            self.counters.aborted += 1
            self._batches.remove(job)

    def _give_up_all(self) -> None:
        for job in tuple(self._batches.jobs):
            self._end(job, errors.Unavailable("the engine is stopping"))
