"""What runs in the next step: continuous batching, chunked prefill and a paged KV cache, in integers.

Every running answer gets its next token in every step; what is left of the step's token budget goes to prompts, a
chunk at a time, so that a long prompt never holds running streams up for longer than one step. A sequence is admitted
when the cache has room for what is known of it, and grows block by block. Where no block is left the newest one gives
its blocks back and waits again; the oldest one can always go on, so everyone comes to his end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from modelengine import errors
from modelengine_kernels.layout import BLOCK_TOKENS
from modelengine_runtime.blocks import BlockPool, blocks_for
from modelengine_runtime.sequence import ChatSequence, Status


@dataclass(frozen=True, slots=True)
class Limits:
    """`kv_blocks` is the cache of the whole engine. `step_tokens` is what one step may compute, at least a token for
    each that may run. `has_prefix_cache`: a block may stand in the tables of several sequences. Guessed tokens fill a
    step that only carries answers on up to `draft_rows` tokens."""

    max_running: int
    max_waiting: int
    step_tokens: int
    kv_blocks: int
    has_prefix_cache: bool = False
    draft_rows: int = 0


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens of one sequence to run: `token_ids` at positions from `start`, and behind them `drafts`, which are
    guessed. `samples`: the last one yields a token, and each of the drafts too.

    `blocks` is the block table. It covers every position up to the chunk's last one.
    """

    sequence: ChatSequence
    token_ids: Sequence[int]
    start: int
    samples: bool
    blocks: Sequence[int]
    drafts: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Load:
    """How full the engine is now; what follows `blocks_total` counts since its start.

    `prompt_tokens` are those that came with admitted sequences, `hit_tokens` those of them that the prefix cache had.
    `draft_tokens` were guessed, `accepted_tokens` of them rightly.
    """

    running: int
    waiting: int
    blocks_used: int
    blocks_cached: int
    blocks_total: int
    preemptions: int
    prompt_tokens: int
    hit_tokens: int
    draft_tokens: int
    accepted_tokens: int


class Scheduler:
    """`running` and `waiting` are in order of arrival, and whoever runs came before everyone who waits."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.waiting: deque[ChatSequence] = deque()
        self.running: list[ChatSequence] = []
        # Whose cache the last plan gave up.
        self.preempted: list[ChatSequence] = []
        self.pool = BlockPool(limits.kv_blocks)
        self._preemptions = 0
        self._prompt_tokens = 0
        self._draft_tokens = 0
        self._accepted_tokens = 0

    @property
    def decodes(self) -> int:
        """How many running sequences get their next token in the next step."""
        return sum(sequence.pending == 1 for sequence in self.running)

    @property
    def prompts(self) -> int:
        """How many are in the middle of their prompts, or could begin with them in the next step."""
        places = self.limits.max_running - len(self.running)
        return len(self.running) - self.decodes + min(len(self.waiting), places)

    @property
    def load(self) -> Load:
        return Load(
            running=len(self.running),
            waiting=len(self.waiting),
            blocks_used=self.pool.used,
            blocks_cached=self.pool.cached,
            blocks_total=self.pool.count,
            preemptions=self._preemptions,
            prompt_tokens=self._prompt_tokens,
            hit_tokens=self.pool.hit_tokens,
            draft_tokens=self._draft_tokens,
            accepted_tokens=self._accepted_tokens,
        )

    def add(self, sequence: ChatSequence) -> None:
        """Queues the sequence. Raises Busy when the queue is full, InvalidRequest when it could never run."""
        if blocks_for(sequence.kv_tokens) > self.limits.kv_blocks:
            raise errors.InvalidRequest(
                f"options.max_new_tokens: prompt and answer may come to {sequence.kv_tokens} tokens, "
                f"this engine's cache holds {self.limits.kv_blocks * BLOCK_TOKENS}"
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
            if sequence.status is Status.FAILED:
                # Should its blocks be the reason, nobody else may come to read them.
                self.pool.forget(sequence.blocks)
            self._give_back(sequence)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)

    def plan(self, prompt_budget: int | None = None) -> list[Chunk]:
        """The next step's chunks; empty when there is nothing to do. Blocks for them are taken here.

        While answers run, prompts get no more than `prompt_budget` tokens together.
        """
        self.preempted = []
        self._grow()
        # Who has just lost his blocks comes first, once there is room for him.
        if not self.preempted:
            self._admit()
        prompts = self._prompts()
        decodes = [sequence for sequence in self.running if sequence.pending == 1]
        budget = self.limits.step_tokens - len(decodes)
        if decodes and prompt_budget is not None:
            budget = min(budget, prompt_budget)
        shares = share(budget, [sequence.pending for sequence in prompts])
        # Beside prompts there is no row to spare.
        rows = min(self.limits.draft_rows, self.limits.step_tokens)
        drafts = 0 if prompts or not decodes else max(0, rows - len(decodes)) // len(decodes)
        return [
            *(self._decode(sequence, drafts) for sequence in decodes),
            *(_chunk(sequence, count) for sequence, count in zip(prompts, shares, strict=True) if count),
        ]

    def computed(self, chunk: Chunk) -> None:
        """The chunk's tokens, not its drafts, are in the cache now; blocks that they have filled become known."""
        self._advance(chunk.sequence, chunk.start + len(chunk.token_ids))

    def accepted_draft(self, sequence: ChatSequence) -> None:
        """The answer's last token was a draft, and so is in the cache already."""
        self._accepted_tokens += 1
        self._advance(sequence, sequence.computed + 1)

    def _advance(self, sequence: ChatSequence, end: int) -> None:
        before, sequence.computed = sequence.computed, end
        if not self.limits.has_prefix_cache:
            return
        for i in range(before // BLOCK_TOKENS, end // BLOCK_TOKENS):
            tokens = sequence.tokens(i * BLOCK_TOKENS, BLOCK_TOKENS)
            sequence.node = self.pool.publish(sequence.node, tokens, sequence.blocks[i])

    def _decode(self, sequence: ChatSequence, most: int) -> Chunk:
        # No draft is worth a block, and none may come after the answer's last token.
        room = len(sequence.blocks) * BLOCK_TOKENS - sequence.length
        left = sequence.limit - len(sequence.output) - 1
        most = min(most, room, left)
        drafts = sequence.guess(most) if most > 0 else []
        self._draft_tokens += len(drafts)
        return _chunk(sequence, 1, drafts)

    def _prompts(self) -> list[ChatSequence]:
        """Who has a part of a prompt to compute. Where several begin alike, as answers to one question that are asked
        for together, the first computes what they share, and the others wait and take it over."""
        prompts: list[ChatSequence] = []
        being_computed = set()
        for sequence in self.running:
            if sequence.pending > 1 and self.limits.has_prefix_cache:
                self._take_over(sequence)
            if sequence.pending == 1:
                continue
            following = sequence.node, tuple(_block(sequence))
            if sequence.computed % BLOCK_TOKENS or following not in being_computed:
                prompts.append(sequence)
            if self.limits.has_prefix_cache and len(following[1]) == BLOCK_TOKENS:
                being_computed.add(following)
        return prompts

    def _take_over(self, sequence: ChatSequence) -> None:
        """Exchanges blocks that are still to be computed for those that somebody else has computed by now."""
        while sequence.computed % BLOCK_TOKENS == 0 and sequence.pending > BLOCK_TOKENS:
            block = self.pool.match_next(sequence.node, _block(sequence))
            if block is None:
                return
            index = sequence.computed // BLOCK_TOKENS
            self.pool.release([sequence.blocks[index]])
            sequence.blocks[index] = block
            sequence.computed += BLOCK_TOKENS
            sequence.node = self.pool.node(block)

    def _grow(self) -> None:
        """A block for each sequence whose next token needs one; the oldest first, at the expense of the newest."""
        for sequence in tuple(self.running):
            while sequence.status is Status.RUNNING and len(sequence.blocks) < blocks_for(sequence.length):
                if self.pool.can_allocate(1):
                    sequence.blocks += self.pool.allocate(1)
                else:
                    self._preempt(self.running[-1])

    def _preempt(self, sequence: ChatSequence) -> None:
        # Nothing is lost but time: its tokens are taken in again, and come back cheaply from the prefix cache.
        self.running.remove(sequence)
        sequence.move(Status.WAITING)
        self._give_back(sequence)
        sequence.preemptions += 1
        self._preemptions += 1
        self.waiting.appendleft(sequence)
        self.preempted.append(sequence)

    def _give_back(self, sequence: ChatSequence) -> None:
        self.pool.release(sequence.blocks)
        # A new list: chunks that have been handed out keep the old one.
        sequence.blocks = []
        sequence.computed = 0

    def _admit(self) -> None:
        # In order of arrival: a large request that does not fit yet holds smaller ones back, or it would never run.
        while self.waiting and len(self.running) < self.limits.max_running and self._has_room(self.waiting[0]):
            self._start(self.waiting.popleft())

    def _has_room(self, sequence: ChatSequence) -> bool:
        blocks = blocks_for(sequence.length)
        if sequence.preemptions:
            # Some way to go, or it would be out again at once; but never more than it can come to need.
            blocks = min(blocks + 1, blocks_for(sequence.kv_tokens))
        found = self.pool.find(_reusable(sequence), sequence.salt) if self.limits.has_prefix_cache else []
        return self.pool.can_allocate(blocks - len(found), beside=found)

    def _start(self, sequence: ChatSequence) -> None:
        matched = self.pool.match(_reusable(sequence), sequence.salt) if self.limits.has_prefix_cache else []
        sequence.blocks = [*matched, *self.pool.allocate(blocks_for(sequence.length) - len(matched))]
        sequence.computed = len(matched) * BLOCK_TOKENS
        sequence.node = self.pool.node(matched[-1]) if matched else sequence.salt
        sequence.begin(cached=sequence.computed)
        self.running.append(sequence)
        self._prompt_tokens += sequence.length


def share(budget: int, pending: Sequence[int]) -> list[int]:
    """How many tokens each prompt gets, given what each still has, in order of arrival.

    The first gets half, and what the others leave. The other half goes to whoever is done soonest, so that a long
    prompt does not hold short ones back; and as the first always gets on, neither do they hold back a long one.
    """
    shares = [0] * len(pending)
    if not pending or budget <= 0:
        return shares
    shares[0] = min(pending[0], max(budget - sum(pending[1:]), budget - budget // 2))
    left = budget - shares[0]
    for i in sorted(range(1, len(pending)), key=lambda i: pending[i]):
        shares[i] = min(pending[i], left)
        left -= shares[i]
    return shares


def _reusable(sequence: ChatSequence) -> Sequence[int]:
    # All but the last token, which is computed in any case: from it comes the next one.
    return sequence.tokens(0, sequence.length - 1)


def _block(sequence: ChatSequence) -> Sequence[int]:
    """The tokens of the block in which the sequence's next one stands, as far as they are known."""
    begin = sequence.computed // BLOCK_TOKENS * BLOCK_TOKENS
    return sequence.tokens(begin, min(BLOCK_TOKENS, sequence.length - begin))


def _chunk(sequence: ChatSequence, count: int, drafts: Sequence[int] = ()) -> Chunk:
    return Chunk(
        sequence,
        token_ids=sequence.tokens(sequence.computed, count),
        start=sequence.computed,
        samples=count == sequence.pending,
        blocks=sequence.blocks,
        drafts=drafts,
    )
