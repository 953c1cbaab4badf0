"""The step thread: schedule, run, deliver. It owns the scheduler and the runner; others only send it mail.

Cancelling is mail like any other. The HTTP side never waits for a step: `submit` and `abort` return at once, and each
sequence's `deliver` carries its events back.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from modelengine import errors
from modelengine_runtime.pace import Pace
from modelengine_runtime.scheduler import Chunk, Load, Scheduler
from modelengine_runtime.sequence import ChatSequence, Failure, Status
from modelengine_runtime.speculation import verified
from modelengine_runtime.step_thread import StepThread

log = logging.getLogger(__name__)


class Runner(Protocol):
    """What the loop needs of a model. Running the same chunks again after a failure must be harmless."""

    def reserve(self, kv_blocks: int) -> None:
        """Makes room for so many blocks; called once, before the first step."""

    def step(self, chunks: Sequence[Chunk]) -> list[Sequence[int]]:
        """Takes the chunks in; for each that samples, the token that follows, and those that follow its drafts."""

    def release(self, sequence: ChatSequence) -> None:
        """Forgets the sequence's cache; called whenever it is given up. One that was preempted begins anew later."""


@dataclass(slots=True)
class Counters:
    """Requests by how they ended, since the start."""

    finished: int = 0
    aborted: int = 0
    failed: int = 0


@dataclass(slots=True)
class Work:
    """What the steps came to, since the start. A step that failed and was run again request by request is several.

    `tokens` are those that went through the model, without guesses; `generated` those that came out of it.
    """

    steps: int = 0
    seconds: float = 0.0
    tokens: int = 0
    generated: int = 0


class StepLoop(StepThread):
    def __init__(self, scheduler: Scheduler, runner: Runner, clock: Callable[[], float] = time.perf_counter) -> None:
        super().__init__("step-loop")
        self.counters = Counters()
        self.work = Work()
        self._scheduler = scheduler
        self._runner = runner
        self._pace = Pace(scheduler.limits.step_tokens)
        self._clock = clock

    @property
    def running(self) -> int:
        return len(self._scheduler.running)

    @property
    def waiting(self) -> int:
        return len(self._scheduler.waiting) + self._mail.qsize()

    @property
    def load(self) -> Load:
        """How full the engine is. Thread-safe, if not of one moment."""
        return replace(self._scheduler.load, waiting=self.waiting)

    def submit(self, sequence: ChatSequence) -> None:
        """Hands the sequence over; a full queue or a dead thread reaches it as a Failure. Thread-safe."""
        self._hand_over(lambda: self._add(sequence))

    def abort(self, sequence: ChatSequence) -> None:
        """Stops the sequence and frees its place, in the next step. Harmless for one that has ended. Thread-safe."""
        self._mail.put(lambda: self._abort(sequence))

    def finish(self, sequence: ChatSequence) -> None:
        """As `abort`, for one that has said all that is wanted of it, and counts as finished."""
        self._mail.put(lambda: self._finish(sequence))

    def turn(self, wait: bool) -> None:
        chunks = self._plan()
        if chunks:
            self._deliver(chunks, self._compute(chunks))
        self._read_mail(wait and not chunks)

    def _plan(self) -> list[Chunk]:
        chunks = self._scheduler.plan(self._pace.prompt_budget(self._scheduler.decodes, self._scheduler.prompts))
        for sequence in self._scheduler.preempted:
            self._runner.release(sequence)
        return chunks

    def _give_up_all(self) -> None:
        for sequence in [*self._scheduler.running, *self._scheduler.waiting]:
            self._fail(sequence, errors.Unavailable("the engine is stopping"))

    def _compute(self, chunks: Sequence[Chunk]) -> list[Sequence[int] | Exception]:
        """The runner's tokens. When a step fails, each chunk runs alone, so that the error reaches only its request."""
        try:
            return [*self._timed_step(chunks)]
        except Exception as failure:
            if len(chunks) == 1:
                return [failure]
            log.warning("a step of %d requests failed, running each alone: %r", len(chunks), failure)
        # Out of the handler: the failure's traceback holds the step's tensors, which a full memory needs back.
        return [self._compute([chunk])[0] for chunk in chunks]

    def _timed_step(self, chunks: Sequence[Chunk]) -> list[Sequence[int]]:
        began = self._clock()
        tokens = self._runner.step(chunks)
        took_s = self._clock() - began
        sizes = [len(chunk.token_ids) for chunk in chunks]
        self._pace.took(sizes.count(1), sum(size for size in sizes if size > 1), took_s)
        self.work.steps += 1
        self.work.seconds += took_s
        self.work.tokens += sum(sizes)
        return tokens

    def _deliver(self, chunks: Sequence[Chunk], results: Sequence[Sequence[int] | Exception]) -> None:
        for chunk, sampled in zip(chunks, results, strict=True):
            sequence = chunk.sequence
            if isinstance(sampled, Exception):
                self._fail_request(sequence, sampled)
                continue
            self._scheduler.computed(chunk)
            tokens = verified(chunk.drafts, sampled)
            if chunk.drafts:
                sequence.lookup.learn(len(chunk.drafts), len(tokens) - 1)
            for i, token in enumerate(tokens):
                if i:
                    self._scheduler.accepted_draft(sequence)
                self._accept(sequence, token)
                if sequence.status is not Status.RUNNING:
                    break

    def _accept(self, sequence: ChatSequence, token: int) -> None:
        self.work.generated += 1
        try:
            events = sequence.accept(token)
        except Exception as failure:
            self._fail_request(sequence, failure)
            return
        if sequence.status is Status.FINISHED:
            self.counters.finished += 1
            self._forget(sequence)
        for event in events:
            sequence.deliver(event)

    def _fail_request(self, sequence: ChatSequence, failure: Exception) -> None:
        # The step thread answers nobody's request, so nothing but this tells whose line it is.
        whose = {"request_id": sequence.request_id} if sequence.request_id else {}
        if isinstance(failure, errors.InvalidRequest):
            # The request's own doing, as a grammar that comes to its bounds: nothing that a traceback would explain.
            log.warning("request %d can't go on: %s", sequence.id, failure, extra=whose)
            self._fail(sequence, failure)
            return
        log.error("request %d failed", sequence.id, exc_info=failure, extra=whose)
        self._fail(sequence, errors.RequestFailed(f"the engine failed on this request: {failure}"))

    def _fail(self, sequence: ChatSequence, error: errors.ModelEngineError) -> None:
        sequence.move(Status.FAILED)
        self.counters.failed += 1
        self._forget(sequence)
        sequence.deliver(Failure(error))

    def _forget(self, sequence: ChatSequence) -> None:
        self._scheduler.remove(sequence)
        self._runner.release(sequence)

    def _add(self, sequence: ChatSequence) -> None:
        try:
            self._scheduler.add(sequence)
        except errors.ModelEngineError as refused:
            sequence.move(Status.FAILED)
            sequence.deliver(Failure(refused))

    def _abort(self, sequence: ChatSequence) -> None:
        if sequence.status in (Status.WAITING, Status.RUNNING):
            sequence.move(Status.ABORTED)
            self.counters.aborted += 1
            self._forget(sequence)

    def _finish(self, sequence: ChatSequence) -> None:
        if sequence.status in (Status.WAITING, Status.RUNNING):
            sequence.move(Status.FINISHED)
            self.counters.finished += 1
            self._forget(sequence)
