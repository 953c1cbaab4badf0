"""The KV cache in blocks, and the prefix cache over them: who holds which block, in integers.

The scheduler asks and takes, the runner only reads the block tables that come of it. A full block is known by its
content, so that a prompt that begins like an earlier one is not computed again. The key is the content itself and not
a hash of it: two prompts can never be taken for each other.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from modelengine_kernels.layout import BLOCK_TOKENS

# What comes before a block: the node of the block before it or, for the first, the salt, which keeps tenants apart.
Node = int | str
Key = tuple[Node, tuple[int, ...]]


def blocks_for(tokens: int) -> int:
    """How many blocks so many tokens fill."""
    return -(-tokens // BLOCK_TOKENS)


def blocks_that_fit(memory_bytes: int, bytes_per_token: int, context_length: int, max_running: int) -> int:
    """The blocks of a cache in this memory; no more than so many requests can fill, each with a whole context."""
    return min(memory_bytes // (BLOCK_TOKENS * bytes_per_token), blocks_for(context_length) * max_running + 1)


@dataclass(frozen=True, slots=True)
class Known:
    """A full block whose content is known. `node` is never used again, so that what hangs on it is never misread."""

    node: int
    key: Key
    block: int


class BlockPool:
    """`count` blocks, 0 to count-1. A block is held (by one sequence or more), cached (known, held by none) or free."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.hit_tokens = 0
        self._holders: Counter[int] = Counter()
        # The last one given back is the first one taken, and blocks never used come last: touched memory is used again.
        self._free: list[int] = []
        self._untouched = 0
        self._nodes = itertools.count()
        self._by_key: dict[Key, Known] = {}
        self._by_block: dict[int, Known] = {}
        # Cached blocks, the least recently used first.
        self._cached: dict[int, None] = {}

    @property
    def free(self) -> int:
        return len(self._free) + self.count - self._untouched

    @property
    def cached(self) -> int:
        return len(self._cached)

    @property
    def used(self) -> int:
        return self.count - self.free - self.cached

    def find(self, tokens: Sequence[int], salt: str = "") -> list[int]:
        """The known blocks with which `tokens` begin. Only a question: nothing is held."""
        blocks: list[int] = []
        node: Node = salt
        for start in range(0, len(tokens) - BLOCK_TOKENS + 1, BLOCK_TOKENS):
            known = self._by_key.get((node, tuple(tokens[start : start + BLOCK_TOKENS])))
            if known is None:
                break
            blocks.append(known.block)
            node = known.node
        return blocks

    def match(self, tokens: Sequence[int], salt: str = "") -> list[int]:
        """Holds what `find` finds."""
        blocks = self.find(tokens, salt)
        for block in blocks:
            self._cached.pop(block, None)
        self._holders.update(blocks)
        self.hit_tokens += len(blocks) * BLOCK_TOKENS
        return blocks

    def match_next(self, parent: Node, tokens: Sequence[int]) -> int | None:
        """Holds the known block with these tokens behind that one, if there is one."""
        known = self._by_key.get((parent, tuple(tokens)))
        if known is None:
            return None
        self._cached.pop(known.block, None)
        self._holders[known.block] += 1
        self.hit_tokens += BLOCK_TOKENS
        return known.block

    def can_allocate(self, count: int, beside: Iterable[int] = ()) -> bool:
        """Whether so many blocks can be had, if need be in place of cached ones, but not of those in `beside`."""
        return count <= self.free + self.cached - sum(block in self._cached for block in beside)

    def allocate(self, count: int) -> list[int]:
        """Holds so many blocks, whose content is nobody's. Ask `can_allocate` first."""
        blocks = [self._take() for _ in range(count)]
        self._holders.update(blocks)
        return blocks

    def release(self, blocks: Sequence[int]) -> None:
        """Gives back what a sequence held, in the order of its text."""
        # The end of a text first: then it is also evicted first, and a known block is not left without its beginning.
        for block in reversed(blocks):
            self._holders[block] -= 1
            assert self._holders[block] >= 0, f"block {block} is given back twice"
            if self._holders[block]:
                continue
            del self._holders[block]
            if block in self._by_block:
                self._cached[block] = None
            else:
                self._free.append(block)

    def publish(self, parent: Node, tokens: Sequence[int], block: int) -> int:
        """Makes a full and computed block known; returns its node, the parent of the next.

        Where another block with this content is known already, that one stays the known one.
        """
        key = (parent, tuple(tokens))
        known = self._by_key.get(key)
        if known is None:
            known = Known(next(self._nodes), key, block)
            self._by_key[key] = self._by_block[block] = known
        return known.node

    def node(self, block: int) -> int:
        """The node of a known block."""
        return self._by_block[block].node

    def forget(self, blocks: Collection[int]) -> None:
        """Makes blocks unknown, for their content is in doubt. Who holds them keeps them."""
        for block in blocks:
            if block in self._by_block:
                del self._by_key[self._by_block.pop(block).key]

    def _take(self) -> int:
        if self._free:
            return self._free.pop()
        if self._untouched < self.count:
            self._untouched += 1
            return self._untouched - 1
        block = next(iter(self._cached))
        del self._cached[block]
        self.forget([block])
        return block
