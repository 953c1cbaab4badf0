"""What is forgotten of a file of weights can be read again, and nothing else is; caches have their memory in time."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from modelengine_runtime import kv_cache, memory
from modelengine_runtime.kv_cache import KVCache

MEGABYTE = 1 << 20


def megabytes(kind: str) -> int:
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(kind))
    return int(line.split()[1]) // 1024


def file_megabytes() -> int:
    return megabytes("RssFile")


def test_a_tensor_of_a_mapped_file_is_forgotten_and_read_again(tmp_path: Path) -> None:
    numbers = torch.arange(32 * MEGABYTE // 4, dtype=torch.int32)
    save_file({"numbers": numbers, "others": numbers + 1}, tmp_path / "model.safetensors")
    with safe_open(tmp_path / "model.safetensors", framework="pt") as opened:
        mapped, others = opened.get_tensor("numbers"), opened.get_tensor("others")
        assert torch.equal(mapped, numbers)
        assert torch.equal(others, numbers + 1)
        before = file_megabytes()
        memory.forget_file(mapped)
        assert before - file_megabytes() >= 31
        assert torch.equal(mapped, numbers)
        assert torch.equal(others, numbers + 1)


def test_a_tensor_of_its_own_is_not_forgotten() -> None:
    numbers = torch.arange(MEGABYTE)
    memory.forget_file(numbers)
    assert int(numbers.sum()) == MEGABYTE * (MEGABYTE - 1) // 2


def test_memory_that_is_taken_ahead_is_there_and_keeps_what_is_in_it() -> None:
    numbers = torch.empty(64 * MEGABYTE, dtype=torch.uint8)
    numbers[:100] = 7
    before = megabytes("RssAnon")
    memory.take(numbers)
    assert megabytes("RssAnon") - before >= 62
    assert numbers[:100].tolist() == [7] * 100


def test_a_cache_has_the_memory_of_the_blocks_that_come_next_and_of_no_more() -> None:
    cache = KVCache(1000)
    # 64 KB a block.
    keys, values = cache.layer(0, heads=8, head_dim=128, value_dim=128, dtype=torch.bfloat16)
    assert keys[0].nbytes + values[0].nbytes == 1 << 16
    before = megabytes("RssAnon")
    cache.take_ahead(15)
    cache._taking.shutdown()
    blocks = 15 + kv_cache.AHEAD
    assert blocks - 16 <= 16 * (megabytes("RssAnon") - before) <= blocks + 64


def test_a_cache_is_asked_for_the_next_blocks_only_when_they_are_some() -> None:
    cache = KVCache(1000)
    asked: list[tuple[int, int]] = []
    cache._take = lambda begin, end: asked.append((begin, end))  # type: ignore[method-assign]
    cache.take_ahead(0)
    cache.layer(0, heads=1, head_dim=16, value_dim=16, dtype=torch.float32)
    for block in (0, 1, 5, kv_cache.BATCH, 990, 995):
        cache.take_ahead(block)
    cache._taking.shutdown()
    first, more = kv_cache.AHEAD, kv_cache.AHEAD + kv_cache.BATCH
    assert asked == [(0, first), (first, more), (more, 1000)]
