"""A model of integers that lives on its block tables, and a company of requests that share it without a thread.

What is kept of a token depends on all before it, as a model's keys and values do, and the next token on all that is
read back through the block table. So a wrong table, a block with two writers, a prefix of somebody else's or a token
that was never taken in changes the answer. It says the same again and again, but for now and then, so that it can be
guessed. The answer of a request that is alone in the world is `alone`; every other
one has to be the same.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from modelengine import errors
from modelengine_kernels.layout import BLOCK_TOKENS
from modelengine_runtime.loop import StepLoop
from modelengine_runtime.sampling import Sampling
from modelengine_runtime.scheduler import Chunk, Limits, Scheduler
from modelengine_runtime.sequence import ChatSequence, Event, Failure, Status
from modelengine_runtime.text import AnswerText

END_OF_TURN = 0
# The end of a turn is one token in so many.
VOCABULARY = 50


def digest(numbers: Iterable[int]) -> int:
    return zlib.crc32(b",".join(b"%d" % number for number in numbers))


def kept(before: int, token: int) -> int:
    """What the cache keeps of a token, after what it keeps of the one before."""
    return digest([before, token])


def next_token(entries: Iterable[int]) -> int:
    """What this model says when the cache holds this."""
    held = [*entries]
    number = digest(held)
    return 1 + len(held) % 9 if number % 5 else number % VOCABULARY


def alone(prompt: Sequence[int], limit: int) -> list[int]:
    """The answer to this prompt, from the text alone."""
    entries = [*itertools.accumulate(prompt, kept, initial=0)]
    answer: list[int] = []
    while len(answer) < limit and (token := next_token(entries[1:])) != END_OF_TURN:
        answer.append(token)
        entries.append(kept(entries[-1], token))
    return answer


def sequence(number: int, prompt: Sequence[int], limit: int, salt: str = "") -> ChatSequence:
    """A sequence whose events nobody reads."""
    return ChatSequence(
        id=number,
        prompt=list(prompt),
        limit=limit,
        sampling=Sampling(),
        stop_tokens=frozenset({END_OF_TURN}),
        text=AnswerText(lambda tokens: "x" * len(tokens)),
        deliver=lambda event: None,
        salt=salt,
    )


class FakePagedRunner:
    """Breaks in the middle of every step in which one of `poisoned` is, and of the next larger one if `trips`."""

    def __init__(self) -> None:
        self.memory: list[list[int]] = []
        self.steps: list[list[tuple[int, int]]] = []
        self.chunks: list[list[Chunk]] = []
        self.released: list[int] = []
        self.poisoned: set[int] = set()
        self.trips = False

    def reserve(self, kv_blocks: int) -> None:
        self.memory = [[-1] * BLOCK_TOKENS for _ in range(kv_blocks)]

    def step(self, chunks: Sequence[Chunk]) -> list[Sequence[int]]:
        trips, self.trips = self.trips and len(chunks) > 1, self.trips and len(chunks) == 1
        # All is written before anything is read, as in a layer of a model that runs over all chunks at once.
        for i, chunk in enumerate(chunks):
            if chunk.sequence.id in self.poisoned or (trips and i == len(chunks) // 2):
                raise ValueError("the fake broke")
            for place, token in enumerate([*chunk.token_ids, *chunk.drafts], chunk.start):
                before = self._read(chunk, place - 1) if place else 0
                self.memory[chunk.blocks[place // BLOCK_TOKENS]][place % BLOCK_TOKENS] = kept(before, token)
        self.chunks.append([replace(chunk, blocks=[*chunk.blocks]) for chunk in chunks])
        self.steps.append([(chunk.sequence.id, len(chunk.token_ids)) for chunk in chunks])
        return [
            [next_token(self._read_to(chunk, i)) for i in range(len(chunk.drafts) + 1)] if chunk.samples else []
            for chunk in chunks
        ]

    def release(self, sequence: ChatSequence) -> None:
        self.released.append(sequence.id)

    def _read(self, chunk: Chunk, place: int) -> int:
        return self.memory[chunk.blocks[place // BLOCK_TOKENS]][place % BLOCK_TOKENS]

    def _read_to(self, chunk: Chunk, drafts: int) -> list[int]:
        """What the cache holds of the chunk's sequence, with so many drafts."""
        return [self._read(chunk, place) for place in range(chunk.start + len(chunk.token_ids) + drafts)]


@dataclass
class Company:
    """The real loop and scheduler over the fake, a turn at a time; after every turn all that must hold is checked."""

    limits: Limits
    runner: FakePagedRunner = field(default_factory=FakePagedRunner)
    requests: list[ChatSequence] = field(default_factory=list)
    refused: set[int] = field(default_factory=set)
    # Who was the oldest in the last turn, and did not get on.
    stood: ChatSequence | None = None

    def __post_init__(self) -> None:
        self.scheduler = Scheduler(self.limits)
        self.runner.reserve(self.limits.kv_blocks)
        self.loop = StepLoop(self.scheduler, self.runner, clock=lambda: 0.0)

    def arrive(self, prompt: Sequence[int], limit: int, resumed: int = 0, salt: str = "") -> ChatSequence:
        """One more request; with the first `resumed` tokens of its answer, if it has so many."""
        one = sequence(len(self.requests), prompt, limit, salt)
        one.deliver = lambda event: self._delivered(one, event)
        self.requests.append(one)
        if one.resume(alone(prompt, limit)[:resumed]) is None:
            self.loop.submit(one)
        return one

    def turn(self) -> None:
        """One step of the loop."""
        oldest = next(iter([*self.scheduler.running, *self.scheduler.waiting]), None)
        before = None if oldest is None else (oldest.computed, len(oldest.output))
        made = len(self.runner.steps)
        self.loop.turn(wait=False)
        # A prompt stands still for an ordinary step now and then, and never for two.
        stands = oldest if before == (oldest and (oldest.computed, len(oldest.output))) else None
        if stands is not None and stands.status is Status.RUNNING:
            assert stands.pending > 1, "an answer gets on in every step"
            assert stands is not self.stood, "the oldest gets on in every other step"
        self.stood = stands
        for step in self.runner.steps[made:]:
            assert sum(count for _, count in step) <= self.limits.step_tokens
            assert len(step) <= self.limits.max_running
        self._check_blocks()

    def run(self) -> None:
        """Turns until nothing is left to do; all that came must have ended, and rightly."""
        turns = 10 + sum(len(one.prompt) + 2 * one.limit for one in self.requests)
        while any(one.status in (Status.WAITING, Status.RUNNING) for one in self.requests):
            turns -= 1
            assert turns, "somebody starves"
            self.turn()
        self.loop.turn(wait=False)
        assert self.scheduler.pool.used == 0
        assert (len(self.scheduler.running), len(self.scheduler.waiting)) == (0, 0)
        for one in self.requests:
            self._check_answer(one)

    def _delivered(self, one: ChatSequence, event: Event) -> None:
        if isinstance(event, Failure) and isinstance(event.error, errors.Busy | errors.InvalidRequest):
            self.refused.add(one.id)

    def _check_answer(self, one: ChatSequence) -> None:
        expected = alone(one.prompt, one.limit)
        if one.status is Status.FINISHED:
            assert one.output == expected, f"request {one.id} says something else than alone"
        else:
            assert one.output == expected[: len(one.output)]
            assert one.status is Status.ABORTED or one.id in self.runner.poisoned | self.refused

    def _check_blocks(self) -> None:
        pool, holders = self.scheduler.pool, [*self.scheduler.running]
        assert pool.used == len({block for one in holders for block in one.blocks})
        assert pool.used + pool.cached + pool.free == self.limits.kv_blocks
        assert all(len(set(one.blocks)) == len(one.blocks) for one in holders)
        assert all(len(one.blocks) * BLOCK_TOKENS >= one.computed for one in holders)
        assert not any(one.blocks for one in self.scheduler.waiting)
        seen: dict[int, tuple[int, str, Sequence[int]]] = {}
        for one in holders:
            for i, block in enumerate(one.blocks):
                prefix = (i, one.salt, one.tokens(0, (i + 1) * BLOCK_TOKENS))
                if block in seen:
                    assert self.limits.has_prefix_cache
                    assert (i + 1) * BLOCK_TOKENS <= one.computed, "a block is shared that somebody still writes"
                    assert seen[block] == prefix, "a block is shared by different texts"
                seen[block] = prefix
