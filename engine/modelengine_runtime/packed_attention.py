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
    """One sequence's keys and values, per layer `[1, kv_heads, capacity, head_dim]`, grown as the sequence does."""

    def __init__(self, dtype: torch.dtype | None = None) -> None:
        self.dtype = dtype
        self._layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def write(
        self, layer: int, start: int, keys: torch.Tensor, values: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Stores new keys and values `[1, kv_heads, n, head_dim]` from position `start`; returns all up to there.

        Writing the same positions again replaces them, so a step that failed half-way can be repeated.
        """
        count = keys.shape[2]
        end = start + count
        stored = self._layers.get(layer)
        if stored is None or stored[0].shape[2] < end:
            stored = self._layers[layer] = self._grown(stored, end, (keys, values))
        all_keys, all_values = stored
        all_keys.narrow(2, start, count).copy_(keys)
        all_values.narrow(2, start, count).copy_(values)
        return all_keys.narrow(2, 0, end), all_values.narrow(2, 0, end)

    @property
    def bytes_per_token(self) -> int:
        """What one more token takes in all layers, by what the model really stored."""
        tensors = [tensor for pair in self._layers.values() for tensor in pair]
        return sum(tensor.shape[1] * tensor.shape[3] * tensor.element_size() for tensor in tensors)

    def _grown(
        self, stored: tuple[torch.Tensor, torch.Tensor] | None, end: int, like: tuple[torch.Tensor, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        filled = 0 if stored is None else stored[0].shape[2]
        capacity = max(-(-end // GROWTH_TOKENS) * GROWTH_TOKENS, filled * 3 // 2)
        keys, values = (
            new.new_empty((1, new.shape[1], capacity, new.shape[3]), dtype=self.dtype or new.dtype) for new in like
        )
        if stored is not None:
            keys[:, :, :filled], values[:, :, :filled] = stored
        return keys, values


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
    layer = int(module.layer_idx)  # type: ignore[arg-type]  # an attribute that every attention layer has
    # Cut once for all spans: this loop runs for every sequence in every layer, and each small operation shows.
    cut = [span.end - span.begin for span in packed.spans]
    cut.append(query.shape[2] - sum(cut))
    queries, keys, values = (
        tensor.split(cut, dim=2)  # type: ignore[no-untyped-call]
        for tensor in (query.to(packed.spans[0].cache.dtype or query.dtype), key, value)
    )
    attended = [
        _attend(queries[i], *span.cache.write(layer, span.start, keys[i], values[i]), scale, sliding_window, softcap)
        for i, span in enumerate(packed.spans)
    ]
    if cut[-1]:
        # Zero where no sequence is: padding must not carry numbers that are none into the next layer.
        attended.append(queries[-1].new_zeros((1, query.shape[1], cut[-1], value.shape[-1])))
    return torch.cat(attended, dim=2).transpose(1, 2).to(query.dtype), None


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
    """Causal attention of the last positions: query `[1, heads, n, d]`, keys and values `[1, kv_heads, total, d]`."""
    count, total = query.shape[2], keys.shape[2]
    if window is not None and total > window + count - 1:
        # No query of this chunk sees further back than this.
        total = window + count - 1
        keys, values = keys[:, :, -total:], values[:, :, -total:]
    is_square = count == total and (window is None or total <= window)
    mask = None if count == 1 or is_square else _causal_mask(count, total, window, query.device)
    if softcap is not None:
        return _attend_softcapped(query, keys, values, mask, is_square, scale, softcap)
    return functional.scaled_dot_product_attention(
        query,
        keys,
        values,
        attn_mask=mask,
        is_causal=is_square and count > 1,
        scale=scale,
        enable_gqa=query.shape[1] != keys.shape[1],
    )


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
    is_square: bool,
    scale: float,
    softcap: float,
) -> torch.Tensor:
    if is_square and mask is None:
        mask = _causal_mask(query.shape[2], keys.shape[2], None, query.device)
    groups = query.shape[1] // keys.shape[1]
    scores = query @ keys.repeat_interleave(groups, 1).transpose(2, 3) * scale
    scores = softcap * torch.tanh(scores / softcap)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    weights = functional.softmax(scores, dim=-1, dtype=torch.float32).to(values.dtype)
    return weights @ values.repeat_interleave(groups, 1)


AttentionInterface.register(NAME, attention)
