"""Attention over the caches of many sequences at once, for any model on transformers' attention interface.

The runner packs the tokens of all sequences into one row, so every other layer runs once for all of them; here each
sequence attends to its own cache, apart from the others. Nothing is padded, and no mask is made by transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn import functional
from transformers import AttentionInterface

NAME = "modelengine_packed"
GROWTH_TOKENS = 256


class KVCache:
    """One sequence's keys and values, per layer `[kv_heads, capacity, head_dim]`, grown as the sequence does."""

    def __init__(self, dtype: torch.dtype | None = None) -> None:
        self._dtype = dtype
        self._keys: dict[int, torch.Tensor] = {}
        self._values: dict[int, torch.Tensor] = {}

    def write(
        self, layer: int, start: int, keys: torch.Tensor, values: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Stores new keys and values `[kv_heads, n, head_dim]` from position `start`; returns all up to there.

        Writing the same positions again replaces them, so a step that failed half-way can be repeated.
        """
        end = start + keys.shape[1]
        self._keys[layer] = _grown(self._keys.get(layer), end, keys, self._dtype)
        self._values[layer] = _grown(self._values.get(layer), end, values, self._dtype)
        self._keys[layer][:, start:end] = keys
        self._values[layer][:, start:end] = values
        return self._keys[layer][:, :end], self._values[layer][:, :end]

    @property
    def bytes_per_token(self) -> int:
        """What one more token takes in all layers, by what the model really stored."""
        stored = [*self._keys.values(), *self._values.values()]
        return sum(tensor.shape[0] * tensor.shape[2] * tensor.element_size() for tensor in stored)


def _grown(old: torch.Tensor | None, end: int, like: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
    if old is not None and old.shape[1] >= end:
        return old
    capacity = max(-(-end // GROWTH_TOKENS) * GROWTH_TOKENS, 0 if old is None else old.shape[1] * 3 // 2)
    new = torch.empty((like.shape[0], capacity, like.shape[2]), dtype=dtype or like.dtype, device=like.device)
    if old is not None:
        new[:, : old.shape[1]] = old
    return new


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens begin..end of the packed row belong to `cache`, at positions from `start`."""

    cache: KVCache
    begin: int
    end: int
    start: int


@dataclass(slots=True)
class Packed:
    """What a forward pass carries to its attention layers. `calls` counts them, as proof that they came here."""

    spans: Sequence[Span]
    calls: int = field(default=0)


def attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    packed: Packed | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """The function that transformers calls in each attention layer.

    Shapes: query `[1, heads, tokens, head_dim]`, key and value `[1, kv_heads, tokens, head_dim]`, result
    `[1, tokens, heads, head_dim]`. Raises NotImplementedError for what it does not know, so that the loader's
    self-check falls back to the slow runner instead of answering wrongly.
    """
    if packed is None:
        raise NotImplementedError("the model does not pass extra arguments on to its attention")
    unknown = [name for name, what in others.items() if isinstance(what, torch.Tensor) and name not in _HARMLESS]
    if attention_mask is not None or unknown:
        raise NotImplementedError(f"attention with {unknown or 'a mask of its own'}")
    packed.calls += 1
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    # Zero where no sequence is: padding must not carry numbers that are none into the next layer.
    out = query.new_zeros((1, query.shape[2], query.shape[1], value.shape[-1]))
    for span in packed.spans:
        keys, values = span.cache.write(
            int(module.layer_idx),  # type: ignore[arg-type]  # an attribute that every attention layer has
            span.start,
            key[0, :, span.begin : span.end],
            value[0, :, span.begin : span.end],
        )
        attended = _attend(query[0, :, span.begin : span.end], keys, values, scale, sliding_window, softcap)
        out[0, span.begin : span.end] = attended.transpose(0, 1)
    return out, None


# Tensors that models pass along and that the attention itself has no use for: positions are already in the rotation.
_HARMLESS = frozenset({"position_ids", "cache_position"})


def _attend(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    scale: float,
    window: int | None,
    softcap: float | None,
) -> torch.Tensor:
    """Causal attention of the last positions: query `[heads, n, d]`, keys and values `[kv_heads, total, d]`."""
    count, total = query.shape[1], keys.shape[1]
    if window is not None and total > window + count - 1:
        # No query of this chunk sees further back than this.
        keys, values = keys[:, -(window + count - 1) :], values[:, -(window + count - 1) :]
        total = keys.shape[1]
    mask = None if count == 1 else _causal_mask(count, total, window, query.device)
    query = query.to(keys.dtype)
    if softcap is not None:
        return _attend_softcapped(query, keys, values, mask, scale, softcap)
    is_square = count == total and (window is None or total <= window)
    return functional.scaled_dot_product_attention(
        query[None],
        keys[None],
        values[None],
        attn_mask=None if is_square else mask,
        is_causal=is_square and count > 1,
        scale=scale,
        enable_gqa=query.shape[0] != keys.shape[0],
    )[0]


def _causal_mask(count: int, total: int, window: int | None, device: torch.device) -> torch.Tensor:
    """`[count, total]`, True where query i, which stands at total - count + i, sees key j."""
    back = torch.arange(total - count, total, device=device)[:, None] - torch.arange(total, device=device)[None, :]
    seen = back >= 0
    return seen if window is None else seen & (back < window)


def _attend_softcapped(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float,
    softcap: float,
) -> torch.Tensor:
    groups = query.shape[0] // keys.shape[0]
    scores = query @ keys.repeat_interleave(groups, 0).transpose(1, 2) * scale
    scores = softcap * torch.tanh(scores / softcap)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    weights = functional.softmax(scores, dim=-1, dtype=torch.float32).to(values.dtype)
    return weights @ values.repeat_interleave(groups, 0)


AttentionInterface.register(NAME, attention)
