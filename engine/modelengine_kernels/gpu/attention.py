"""Causal attention over a paged cache on a GPU, in an order of arithmetic that depends on a query's position alone.

As on a CPU (attention.cpp) a query takes its keys in steps of 64 from a multiple of 64 on, within partitions that are
merged in order. Steps that it sees nothing of change nothing, so it does not matter which queries share them. Softmax
is the online one of Milakov and Gimelshein (2018); splitting long contexts follows Flash-Decoding (Dao et al. 2023).
"""

# mypy: disable-error-code="no-untyped-def,no-any-return,untyped-decorator"
from __future__ import annotations

import torch
import triton
import triton.language as tl

from modelengine_kernels import gpu
from modelengine_kernels.gpu.plan import Plan
from modelengine_kernels.layout import BLOCK_TOKENS

# The least that the tensor cores take, and enough for a query's heads that share a key head in most models.
ROWS = 16
KEYS = 64
WARPS = 2
MAX_DIM = 256


@triton.jit
def _store(
    key, value, key_row, key_head, value_row, value_head, key_cache, value_cache,
    positions, owners, sequences, blocks, kv_heads, head_dim, value_dim,
    HEAD_DIM: tl.constexpr, VALUE_DIM: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row, head = tl.program_id(0), tl.program_id(1)
    owner = tl.load(owners + row)
    if owner < 0:
        return
    position = tl.load(positions + row)
    block = tl.load(blocks + tl.load(sequences + 3 * owner + 2) + position // BLOCK)
    page, slot = block * kv_heads + head, position % BLOCK
    d = tl.arange(0, HEAD_DIM)
    k = tl.load(key + row * key_row + head * key_head + d, mask=d < head_dim)
    tl.store(key_cache + (page * head_dim + d) * BLOCK + slot, k.to(key_cache.dtype.element_ty), mask=d < head_dim)
    d = tl.arange(0, VALUE_DIM)
    v = tl.load(value + row * value_row + head * value_head + d, mask=d < value_dim)
    to = value_cache + (page * BLOCK + slot) * value_dim + d
    tl.store(to, v.to(value_cache.dtype.element_ty), mask=d < value_dim)


@triton.jit
def _attend(
    query, query_row, query_head, out, partial_sums, partial_totals, key_cache, value_cache,
    positions, owners, sequences, blocks, kv_heads, head_dim, value_dim, scale, softcap, window,
    GROUP: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr, HEAD_DIM: tl.constexpr, VALUE_DIM: tl.constexpr,
    BLOCK: tl.constexpr, PARTITION: tl.constexpr, PARTITIONS: tl.constexpr, HAS_SOFTCAP: tl.constexpr,
    HAS_WINDOW: tl.constexpr, IS_FULL: tl.constexpr,
):  # fmt: skip
    # Each program has some rows of one sequence, the heads of each that share a key head, and one partition of the
    # keys. It is the first of the rows whose program works; those of the others find nothing to do.
    QUERIES: tl.constexpr = ROWS // GROUP
    first_row, kv_head, partition = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    part, d, e = tl.arange(0, ROWS), tl.arange(0, HEAD_DIM), tl.arange(0, VALUE_DIM)
    row = first_row + part // GROUP
    heads = kv_heads * GROUP
    at_head = row * heads + kv_head * GROUP + part % GROUP
    to = out + at_head[:, None] * value_dim + e[None, :]
    owner = tl.load(owners + first_row)
    if owner < 0:
        # Padding must not carry numbers that are none into the next layer.
        nothing = tl.zeros((ROWS, VALUE_DIM), dtype=tl.float32).to(out.dtype.element_ty)
        tl.store(to, nothing, mask=(part < GROUP)[:, None] & (e < value_dim)[None, :])
        return
    begin, end = tl.load(sequences + 3 * owner), tl.load(sequences + 3 * owner + 1)
    if (first_row - begin) % QUERIES != 0:
        return
    start = tl.load(positions + first_row)
    last = start + tl.minimum(end - first_row, QUERIES) - 1
    first = partition * PARTITION
    if HAS_WINDOW:
        first = tl.maximum(first, tl.maximum(0, start - window + 1) // KEYS * KEYS)
    behind = tl.minimum(last + 1, (partition + 1) * PARTITION)
    if (partition * PARTITION > last) | (first >= behind) & (PARTITIONS == 1):
        return
    table = blocks + tl.load(sequences + 3 * owner + 2)
    is_row = (row < end) & (part < QUERIES * GROUP)
    position = start + part // GROUP
    is_query = is_row[:, None] & (d < head_dim)[None, :]
    at_query = query + row[:, None] * query_row + (kv_head * GROUP + part % GROUP)[:, None] * query_head
    q = tl.load(at_query + d[None, :], mask=is_query, other=0.0).to(key_cache.dtype.element_ty)
    largest = tl.full((ROWS,), float("-inf"), dtype=tl.float32)
    total = tl.zeros((ROWS,), dtype=tl.float32)
    sums = tl.zeros((ROWS, VALUE_DIM), dtype=tl.float32)
    for at in range(first, behind, KEYS):
        place = tl.multiple_of(at, KEYS) + tl.arange(0, KEYS)
        is_key = place < behind
        page = tl.load(table + place // BLOCK, mask=place // BLOCK * BLOCK < behind, other=0) * kv_heads + kv_head
        slot = place % BLOCK
        at_key = key_cache + page[None, :] * head_dim * BLOCK + d[:, None] * BLOCK + slot[None, :]
        at_value = value_cache + page[:, None] * BLOCK * value_dim + slot[:, None] * value_dim + e[None, :]
        # Of a slot that nothing was written to, a score is masked, but 0 times a value may be no number. What a mask
        # leaves whole is read many numbers at a time.
        if IS_FULL:
            k = tl.load(at_key)
            v = tl.load(at_value, mask=is_key[:, None], other=0.0)
        else:
            k = tl.load(at_key, mask=(d < head_dim)[:, None], other=0.0)
            v = tl.load(at_value, mask=is_key[:, None] & (e < value_dim)[None, :], other=0.0)
        scores = tl.dot(q, k, input_precision="ieee") * scale
        if HAS_SOFTCAP:
            # tanh, of the size first.
            e_to = tl.exp(-2.0 / softcap * tl.abs(scores))
            capped = softcap * (1.0 - e_to) / (1.0 + e_to)
            scores = tl.where(scores < 0.0, -capped, capped)
        seen = (place[None, :] <= position[:, None]) & is_key[None, :]
        if HAS_WINDOW:
            seen = seen & (place[None, :] > position[:, None] - window)
        scores = tl.where(seen, scores, float("-inf"))
        new_largest = tl.maximum(largest, tl.max(scores, 1))
        base = tl.where(new_largest == float("-inf"), 0.0, new_largest)
        weights = tl.exp(scores - base[:, None])
        shrink = tl.exp(largest - base)
        total = total * shrink + tl.sum(weights, 1)
        sums = tl.dot(weights.to(v.dtype), v, sums * shrink[:, None], input_precision="ieee")
        largest = new_largest
    if PARTITIONS == 1:
        result = (sums / total[:, None]).to(out.dtype.element_ty)
        tl.store(to, result, mask=is_row[:, None] & (e < value_dim)[None, :])
    else:
        at_part = at_head * PARTITIONS + partition
        tl.store(partial_totals + 2 * at_part, largest, mask=is_row)
        tl.store(partial_totals + 2 * at_part + 1, total, mask=is_row)
        tl.store(partial_sums + at_part[:, None] * VALUE_DIM + e[None, :], sums, mask=is_row[:, None])


@triton.jit
def _merge(
    out, partial_sums, partial_totals, positions, owners, heads, value_dim,
    VALUE_DIM: tl.constexpr, PARTITION: tl.constexpr, PARTITIONS: tl.constexpr,
):  # fmt: skip
    # In the order of the partitions. One alone comes through unchanged, as if it had not been split.
    row, head = tl.program_id(0), tl.program_id(1)
    if tl.load(owners + row) < 0:
        return
    e = tl.arange(0, VALUE_DIM)
    at_head = row * heads + head
    largest = tl.full((1,), float("-inf"), dtype=tl.float32)
    total = tl.zeros((1,), dtype=tl.float32)
    sums = tl.zeros((VALUE_DIM,), dtype=tl.float32)
    for partition in range(0, tl.load(positions + row) // PARTITION + 1):
        at_part = at_head * PARTITIONS + partition
        part_largest = tl.load(partial_totals + 2 * at_part)
        new_largest = tl.maximum(largest, part_largest)
        base = tl.where(new_largest == float("-inf"), 0.0, new_largest)
        shrink, part_shrink = tl.exp(largest - base), tl.exp(part_largest - base)
        total = total * shrink + tl.load(partial_totals + 2 * at_part + 1) * part_shrink
        sums = sums * shrink + tl.load(partial_sums + at_part * VALUE_DIM + e) * part_shrink
        largest = new_largest
    tl.store(out + at_head * value_dim + e, (sums / total).to(out.dtype.element_ty), mask=e < value_dim)


def is_supported(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> bool:
    """Whether the kernel takes these: `[tokens, heads, dim]`."""
    return (
        max(query.shape[-1], value.shape[-1]) <= MAX_DIM
        and query.shape[1] % key.shape[1] == 0
        and gpu.is_supported(query, key, value)
    )


def store_and_attend(
    plan: Plan,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    key_cache: torch.Tensor,
    value_cache: torch.Tensor,
    scale: float,
    window: int = 0,
    softcap: float = 0.0,
) -> torch.Tensor:
    """As `modelengine_kernels.attention.store_and_attend`, in the type of the query."""
    count, heads, head_dim = query.shape
    kv_heads, value_dim = value.shape[1:]
    out = torch.empty((count, heads, value_dim), dtype=query.dtype, device=query.device)
    places = (plan.positions, plan.owners, plan.sequences, plan.blocks)
    # tl.dot takes no less than 16 of a dimension.
    head_width, value_width = max(16, triton.next_power_of_2(head_dim)), max(16, triton.next_power_of_2(value_dim))
    _store[(count, kv_heads)](
        key, value, *key.stride()[:2], *value.stride()[:2], key_cache, value_cache,
        *places, kv_heads, head_dim, value_dim,
        HEAD_DIM=head_width,
        VALUE_DIM=value_width,
        BLOCK=BLOCK_TOKENS,
    )  # fmt: skip
    partial_sums = partial_totals = out
    if plan.partitions > 1:
        partial_sums = out.new_empty((count, heads, plan.partitions, value_width), dtype=torch.float32)
        partial_totals = out.new_empty((count, heads, plan.partitions, 2), dtype=torch.float32)
    group = heads // kv_heads
    _attend[(count, kv_heads, plan.partitions)](
        query, *query.stride()[:2], out, partial_sums, partial_totals, key_cache, value_cache,
        *places, kv_heads, head_dim, value_dim, scale, softcap, window,
        GROUP=group,
        ROWS=max(ROWS, triton.next_power_of_2(group)),
        KEYS=KEYS,
        HEAD_DIM=head_width,
        VALUE_DIM=value_width,
        BLOCK=BLOCK_TOKENS,
        PARTITION=plan.partition,
        PARTITIONS=plan.partitions,
        HAS_SOFTCAP=softcap > 0,
        HAS_WINDOW=window > 0,
        IS_FULL=(head_width, value_width) == (head_dim, value_dim),
        num_warps=WARPS,
    )  # fmt: skip
    if plan.partitions > 1:
        _merge[(count, heads)](
            out, partial_sums, partial_totals, plan.positions, plan.owners, heads, value_dim,
            VALUE_DIM=value_width,
            PARTITION=plan.partition,
            PARTITIONS=plan.partitions,
            num_warps=1,
        )  # fmt: skip
    return out
