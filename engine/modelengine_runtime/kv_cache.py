"""Where the keys and values of all sequences lie: blocks of 16 tokens, the same block numbers in every layer.

A sequence's block table, which the scheduler makes, says which blocks are its own. What the layers keep is not read off
the config but seen when they first write: heads and sizes differ between models, and within some.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from modelengine_kernels.attention import Plan
from modelengine_kernels.gpu.plan import Plan as GpuPlan
from modelengine_kernels.layout import BLOCK_TOKENS
from modelengine_runtime import memory

CPU = torch.device("cpu")


# Blocks whose memory is taken before they are needed.
AHEAD = 16


class KVCache:
    """Per layer keys `[blocks, kv_heads, head_dim, 16]` and values `[blocks, kv_heads, 16, value_dim]`.

    Memory is taken from the system as it is needed, and a little ahead, a block in a step: one in which eight answers
    begin new blocks would wait for thousands of pages, twice as long as it computes where the system has none at hand.
    """

    def __init__(self, blocks: int, dtype: torch.dtype | None = None) -> None:
        self.blocks = blocks
        self.dtype = dtype
        self._layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._taken = 0

    def layer(
        self, index: int, heads: int, head_dim: int, value_dim: int, dtype: torch.dtype, device: torch.device = CPU
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The caches of a layer that keeps keys and values of such sizes."""
        caches = self._layers.get(index)
        if caches is None:
            made = functools.partial(torch.empty, dtype=self.dtype or dtype, device=device)
            caches = self._layers[index] = (
                made((self.blocks, heads, head_dim, BLOCK_TOKENS)),
                made((self.blocks, heads, BLOCK_TOKENS, value_dim)),
            )
        return caches

    def take_ahead(self, block: int) -> None:
        """Says that blocks up to this one are in use, and has memory taken for one more where few are ready."""
        # Not those of a long prompt that has just come: it begins one in a step itself.
        self._taken = max(self._taken, block + 1)
        if self._layers and self._taken < min(self.blocks, block + 1 + AHEAD):
            for tensor in itertools.chain(*self._layers.values()):
                if tensor.device == CPU:
                    memory.take(tensor[self._taken])
            self._taken += 1

    @property
    def bytes_per_token(self) -> int:
        """What one more token takes in all layers."""
        tensors = [tensor for pair in self._layers.values() for tensor in pair]
        return sum(tensor[0].numel() * tensor.element_size() for tensor in tensors) // BLOCK_TOKENS


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens begin..end of the packed row are one sequence's, at positions from `start`. `blocks` is its table."""

    begin: int
    end: int
    start: int
    blocks: Sequence[int]


@dataclass
class Packed:
    """What a forward pass carries to its attention layers. `calls` counts them, as proof that they came here.

    `gpu_plan` is what the kernels for a GPU read instead of `spans`, where they are used.
    """

    cache: KVCache
    spans: Sequence[Span]
    gpu_plan: GpuPlan | None = None
    calls: int = field(default=0)

    @functools.cached_property
    def plan(self) -> Plan:
        return Plan(self.sequences)

    @property
    def sequences(self) -> list[tuple[int, int, int, Sequence[int]]]:
        """(first row, rows, first position, block table) of each span."""
        return [(span.begin, span.end - span.begin, span.start, span.blocks) for span in self.spans]
