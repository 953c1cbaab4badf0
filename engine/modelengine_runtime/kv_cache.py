"""Where the keys and values of all sequences lie: blocks of 16 tokens, the same block numbers in every layer.

A sequence's block table, which the scheduler makes, says which blocks are its own. What the layers keep is not read off
the config but seen when they first write: heads and sizes differ between models, and within some.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from modelengine_kernels.attention import Plan
from modelengine_kernels.layout import BLOCK_TOKENS


class KVCache:
    """Per layer keys `[blocks, kv_heads, head_dim, 16]` and values `[blocks, kv_heads, 16, value_dim]`.

    Memory is taken from the system as blocks are first written.
    """

    def __init__(self, blocks: int, dtype: torch.dtype | None = None) -> None:
        self.blocks = blocks
        self.dtype = dtype
        self._layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def layer(self, index: int, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The caches of a layer that keeps such keys and values, `[tokens, kv_heads, dim]`."""
        caches = self._layers.get(index)
        if caches is None:
            _, heads, head_dim = key.shape
            caches = self._layers[index] = (
                key.new_empty((self.blocks, heads, head_dim, BLOCK_TOKENS), dtype=self.dtype or key.dtype),
                value.new_empty((self.blocks, heads, BLOCK_TOKENS, value.shape[-1]), dtype=self.dtype or value.dtype),
            )
        return caches

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


@dataclass(slots=True)
class Packed:
    """What a forward pass carries to its attention layers. `calls` counts them, as proof that they came here."""

    cache: KVCache
    spans: Sequence[Span]
    plan: Plan = field(init=False)
    calls: int = field(default=0)

    def __post_init__(self) -> None:
        self.plan = Plan([(span.begin, span.end - span.begin, span.start, span.blocks) for span in self.spans])

    @property
    def tokens(self) -> int:
        return self.spans[-1].end if self.spans else 0
