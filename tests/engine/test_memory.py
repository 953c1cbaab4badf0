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


def test_a_cache_has_the_memory_of_a_few_blocks_that_come_next_one_in_a_step() -> None:
    cache = KVCache(1000)
    cache.take_ahead(15)
    # A megabyte a block.
    keys, values = cache.layer(0, heads=64, head_dim=256, value_dim=256, dtype=torch.bfloat16)
    assert keys[0].nbytes + values[0].nbytes == MEGABYTE
    before = megabytes("RssAnon")
    taken = []
    for _ in range(kv_cache.AHEAD + 9):
        cache.take_ahead(15)
        taken.append(megabytes("RssAnon") - before)
    assert abs(taken[0] - 1) <= 1
    assert abs(taken[kv_cache.AHEAD // 2] - kv_cache.AHEAD // 2) <= 2
    assert abs(taken[-1] - kv_cache.AHEAD) <= 2
    # What a long prompt has just been given is left to it.
    cache.take_ahead(300)
    assert abs(megabytes("RssAnon") - before - kv_cache.AHEAD - 1) <= 2
