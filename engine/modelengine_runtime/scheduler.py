"""What runs in the next step: continuous batching and chunked prefill, in integers.

Every running answer gets its next token in every step; what is left of the step's token budget goes to prompts, in
order of arrival, a chunk at a time, so that a long prompt never holds running streams up for longer than one step.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from modelengine import errors
from modelengine_runtime.sequence import ChatSequence, Status


@dataclass(frozen=True, slots=True)
class Limits:
    """`kv_tokens` is the cache of the whole engine, `step_tokens` what one step may compute, both in tokens."""

    max_running: int
    max_waiting: int
    step_tokens: int
    kv_tokens: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens of one sequence to run: `token_ids` at positions from `start`. `samples`: the last one yields a token."""

    sequence: ChatSequence
    token_ids: Sequence[int]
    start: int
    samples: bool


class Scheduler:
    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.waiting: deque[ChatSequence] = deque()
        self.running: list[ChatSequence] = []
        self._kv_free = limits.kv_tokens

    def add(self, sequence: ChatSequence) -> None:
        """Queues the sequence. Raises Busy when the queue is full, InvalidRequest when it could never run."""
        if sequence.kv_tokens > self.limits.kv_tokens:
            raise errors.InvalidRequest(
                f"options.max_new_tokens: prompt and answer may come to {sequence.kv_tokens} tokens, "
                f"this engine's cache holds {self.limits.kv_tokens}"
            )
        # Counted together: a burst may fill the free places and the queue at once, between two steps.
        if len(self.running) + len(self.waiting) >= self.limits.max_running + self.limits.max_waiting:
            raise errors.Busy(
                f"the queue is full: {len(self.running)} requests run and {len(self.waiting)} wait", retry_after_s=1.0
            )
        self.waiting.append(sequence)

    def remove(self, sequence: ChatSequence) -> None:
        """Forgets a sequence that is finished, aborted or failed, and frees what it held."""
        if sequence in self.running:
            self.running.remove(sequence)
            self._kv_free += sequence.kv_tokens
        elif sequence in self.waiting:
            self.waiting.remove(sequence)

    def plan(self) -> list[Chunk]:
        """The next step's chunks; admits waiting sequences first. Empty when there is nothing to do."""
        while self._can_admit():
            self._admit()
        decodes = [s for s in self.running if s.computed >= len(s.prompt)]
        chunks = [Chunk(s, s.tokens(s.computed, 1), s.computed, samples=True) for s in decodes]
        budget = self.limits.step_tokens - len(chunks)
        for sequence in self.running:
            left = len(sequence.prompt) - sequence.computed
            if left <= 0:
                continue
            count = min(left, budget)
            if count <= 0:
                break
            chunks.append(
                Chunk(sequence, sequence.tokens(sequence.computed, count), sequence.computed, samples=count == left)
            )
            budget -= count
        return chunks

    def _can_admit(self) -> bool:
        # In order of arrival: a large request that does not fit yet holds smaller ones back, or it would never run.
        return (
            bool(self.waiting)
            and len(self.running) < self.limits.max_running
            and self.waiting[0].kv_tokens <= self._kv_free
        )

    def _admit(self) -> None:
        sequence = self.waiting.popleft()
        sequence.move(Status.RUNNING)
        self._kv_free -= sequence.kv_tokens
        self.running.append(sequence)
