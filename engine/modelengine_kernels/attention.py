"""Attention over a paged cache, by the compiled kernel: exact, whatever shares the batch."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch

from modelengine_kernels.library import TYPES, load, threads

MAX_VALUE_DIM = 256


def is_supported(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> bool:
    """Whether the kernel takes these: `[tokens, heads, dim]`, of equal type."""
    return (
        load() is not None
        and query.device.type == "cpu"
        and query.dtype == key.dtype == value.dtype
        and query.dtype in TYPES
        and value.shape[-1] % 16 == 0
        and value.shape[-1] <= MAX_VALUE_DIM
        and query.shape[1] % key.shape[1] == 0
    )


class Plan:
    """Whose rows are where, for all layers of one step.

    `sequences` has (begin, count, start, block table) of each: rows begin..begin+count stand at positions from `start`,
    and the table names the blocks from position 0 on.
    """

    def __init__(self, sequences: Sequence[tuple[int, int, int, Sequence[int]]]) -> None:
        rows: list[int] = []
        blocks: list[int] = []
        for begin, count, start, table in sequences:
            rows += begin, count, start, len(blocks)
            blocks += table
        self.count = len(sequences)
        self.rows = torch.tensor(rows, dtype=torch.int32)
        self.blocks = torch.tensor(blocks, dtype=torch.int32)
        self.threads = threads()


def store_and_attend(
    plan: Plan,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    key_cache: torch.Tensor,
    value_cache: torch.Tensor,
    out: torch.Tensor,
    scale: float,
    window: int,
    softcap: float,
) -> None:
    """Writes the new keys and values into the cache and attends. Shapes: query `[rows, heads, head_dim]`, key
    `[rows, kv_heads, head_dim]`, value `[rows, kv_heads, value_dim]`, out `[rows, heads, value_dim]` dense, caches
    `[blocks, kv_heads, head_dim, 16]` and `[blocks, kv_heads, 16, value_dim]`. A `window` or `softcap` of 0 is none.
    """
    library = load()
    assert library is not None
    tensors = (query, key, value, out, key_cache, value_cache)
    pointers = (ctypes.c_void_p * 6)(*[tensor.data_ptr() for tensor in tensors])
    strides = (ctypes.c_int64 * 6)(*query.stride()[:2], *key.stride()[:2], *value.stride()[:2])
    sizes = (ctypes.c_int64 * 5)(query.shape[1], key.shape[1], query.shape[2], value.shape[2], window)
    library.me_attention(
        pointers,
        strides,
        sizes,
        scale,
        softcap,
        plan.rows.data_ptr(),
        plan.count,
        plan.blocks.data_ptr(),
        TYPES[query.dtype],
        TYPES[key_cache.dtype],
        plan.threads,
    )
