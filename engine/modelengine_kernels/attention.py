"""Attention over a paged cache, by the compiled kernel: exact, whatever shares the batch."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch

from modelengine_kernels import tape
from modelengine_kernels.library import TYPES, load, threads
from modelengine_kernels.tape import Call, Operation

MAX_VALUE_DIM = 256


def is_supported(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> bool:
    """Whether the kernel takes these: `[tokens, heads, dim]`."""
    return (
        load() is not None
        and query.device.type == "cpu"
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
        self.tokens = sum(count for _, count, _, _ in sequences)
        self.rows = torch.tensor(rows, dtype=torch.int32)
        self.blocks = torch.tensor(blocks, dtype=torch.int32)


class _Rows(ctypes.Structure):
    """AttentionRows of kernels.h."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("query", "key", "value", "out")),
        *((f"{name}_strides", ctypes.c_int64 * 2) for name in ("query", "key", "value")),
    ]


class _Shape(ctypes.Structure):
    """AttentionShape of kernels.h."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("heads", "kv_heads", "head_dim", "value_dim", "window")),
        *((name, ctypes.c_float) for name in ("scale", "softcap")),
    ]


def store_and_attend(
    plan: Plan,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layer: int,
    key_cache: torch.Tensor,
    value_cache: torch.Tensor,
    scale: float,
    window: int = 0,
    softcap: float = 0.0,
) -> torch.Tensor:
    """Writes the new keys and values into the layer's cache and attends: float32 `[rows, heads, value_dim]`.

    Shapes: query `[rows, heads, head_dim]`, key `[rows, kv_heads, head_dim]`, value `[rows, kv_heads, value_dim]`,
    caches `[blocks, kv_heads, head_dim, 16]` and `[blocks, kv_heads, 16, value_dim]`. Rows that belong to no sequence
    become 0. A `window` or `softcap` of 0 is none.
    """
    library = load()
    assert library is not None
    query, key, value = query.float(), key.float(), value.float()
    count, heads, head_dim = query.shape
    kv_heads, value_dim = value.shape[1:]
    out = torch.empty((count, heads, value_dim))
    if plan.tokens < count:
        # Padding must not carry numbers that are none into the next layer.
        out[plan.tokens :] = 0
    if tape.leaves_out(
        lambda: Call(
            Operation.ATTEND,
            (query, key, value),
            out,
            (),
            (heads, kv_heads, head_dim, value_dim, window, layer),
            (scale, softcap),
        )
    ):
        return out
    library.me_attention(
        ctypes.byref(
            _Rows(
                *(tensor.data_ptr() for tensor in (query, key, value, out)),
                *(tensor.stride()[:2] for tensor in (query, key, value)),
            )
        ),
        ctypes.byref(_Shape(heads, kv_heads, head_dim, value_dim, window, scale, softcap)),
        key_cache.data_ptr(),
        value_cache.data_ptr(),
        plan.rows.data_ptr(),
        plan.count,
        plan.blocks.data_ptr(),
        TYPES[key_cache.dtype],
        threads(),
    )
    return out
