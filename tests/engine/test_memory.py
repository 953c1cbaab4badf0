"""What is forgotten of a file of weights can be read again, and nothing else is forgotten."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from modelengine_runtime import memory

MEGABYTE = 1 << 20


def file_megabytes() -> int:
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("RssFile"))
    return int(line.split()[1]) // 1024


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
