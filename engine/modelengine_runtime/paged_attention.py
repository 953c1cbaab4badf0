"""Attention over the paged caches of many sequences at once, for any model on transformers' attention interface.

The runner packs the tokens of all sequences into one row, so every other layer runs once for all of them; here each
sequence attends to its own blocks. Nothing is padded, and no mask is made by transformers. Kernels do it, whose results
do not depend on what else is in the row; where there are none torch does, sequence by sequence.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional
from transformers import AttentionInterface

from modelengine_kernels import attention as kernel
from modelengine_kernels.layout import BLOCK_TOKENS
from modelengine_runtime.kv_cache import Packed, Span

NAME = "modelengine_paged"
# Tensors that models pass along and that the attention itself has no use for: positions are already in the rotation.
_HARMLESS = frozenset({"position_ids", "cache_position"})


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
    # From here on `[tokens, heads, dim]`.
    queries, keys, values = query[0].transpose(0, 1), key[0].transpose(0, 1), value[0].transpose(0, 1)
    layer = int(module.layer_idx)  # type: ignore[arg-type]
    _, kv_heads, head_dim = keys.shape
    key_cache, value_cache = packed.cache.layer(layer, kv_heads, head_dim, values.shape[-1], keys.dtype, keys.device)
    if packed.gpu_plan is not None:
        from modelengine_kernels.gpu import attention as gpu_kernel

        if not gpu_kernel.is_supported(queries, keys, values):
            raise NotImplementedError(f"attention over {head_dim} dimensions of {keys.dtype} on a GPU")
        attended = gpu_kernel.store_and_attend(
            packed.gpu_plan, queries, keys, values, key_cache, value_cache, scale, sliding_window or 0, softcap or 0.0
        )
        return attended[None], None
    if kernel.is_supported(queries, keys, values):
        kept = (layer, key_cache, value_cache)
        attended = kernel.store_and_attend(
            packed.plan, queries, keys, values, *kept, scale, sliding_window or 0, softcap or 0.0
        )
        return attended.to(query.dtype)[None], None
    out = queries.new_zeros((queries.shape[0], queries.shape[1], values.shape[-1]))
    for span in packed.spans:
        here = slice(span.begin, span.end)
        _store(span, keys[here], values[here], key_cache, value_cache)
        out[here] = _attend(span, queries[here], key_cache, value_cache, scale, sliding_window, softcap)
    return out[None], None


def _store(
    span: Span, keys: torch.Tensor, values: torch.Tensor, key_cache: torch.Tensor, value_cache: torch.Tensor
) -> None:
    """Writing the same positions again replaces them, so a step that failed half-way can be repeated."""
    positions = torch.arange(span.start, span.start + span.end - span.begin, device=keys.device)
    blocks = torch.tensor(span.blocks, device=keys.device)[positions // BLOCK_TOKENS]
    slots = positions % BLOCK_TOKENS
    key_cache[blocks, :, :, slots] = keys.to(key_cache.dtype)
    value_cache[blocks, :, slots] = values.to(value_cache.dtype)


def _attend(
    span: Span,
    queries: torch.Tensor,
    key_cache: torch.Tensor,
    value_cache: torch.Tensor,
    scale: float,
    window: int | None,
    softcap: float | None,
) -> torch.Tensor:
    """Causal attention of `[count, heads, dim]` over the span's blocks, by torch."""
    count, total = len(queries), span.start + span.end - span.begin
    # No query of this chunk sees further back than this.
    first = 0 if window is None else max(0, total - window - count + 1)
    in_use = span.blocks[first // BLOCK_TOKENS : -(-total // BLOCK_TOKENS)]
    table = torch.tensor(in_use, device=queries.device)
    begin = first - first % BLOCK_TOKENS
    keys = key_cache[table].permute(1, 0, 3, 2).flatten(1, 2)[None, :, first - begin : total - begin]
    values = value_cache[table].transpose(0, 1).flatten(1, 2)[None, :, first - begin : total - begin]
    query = queries.to(keys.dtype).transpose(0, 1)[None]
    is_square = first == 0 and count == total and (window is None or total <= window)
    mask = None if count == 1 or is_square else _causal_mask(count, total - first, window, query.device)
    if softcap is not None:
        attended = _attend_softcapped(query, keys, values, mask, is_square, scale, softcap)
    else:
        attended = functional.scaled_dot_product_attention(
            query,
            keys,
            values,
            attn_mask=mask,
            is_causal=is_square and count > 1,
            scale=scale,
            enable_gqa=query.shape[1] != keys.shape[1],
        )
    return attended[0].transpose(0, 1).to(queries.dtype)


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
