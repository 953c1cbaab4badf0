"""What the machine allows at most, and how near an engine comes to it.

A decode step reads every weight once, however many chats it serves, and multiplies each with every chat's numbers. The
slower of the two is the roof. What the step reads of the chats' own keys and values is left out, so the roof is high.
`python -m bench.engine.roofline THREADS` measures the machine, in a process of its own.
"""

from __future__ import annotations

import json
import mmap
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from bench import processes

# More than any cache holds, even of a whole host.
MEMORY_BYTES = 1 << 30
GEMM_SIZE = 4096
REPEATS = 5
TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Machine:
    """Bytes per second that all threads together read; by type, operations per second of large products. `gpu` names
    the one that was measured, if one was."""

    read: float
    peaks: dict[str, float]
    gpu: str = ""


def bound(machine: Machine, arithmetic: str, weight_bytes: float, weights: int, chats: int) -> float:
    """Tokens per second of all chats together that the roof allows."""
    reading_s = weight_bytes / machine.read
    multiplying_s = 2 * weights * chats / machine.peaks[arithmetic]
    return chats / max(reading_s, multiplying_s)


def describe(machine: Machine) -> str:
    peaks = ", ".join(f"{name} {peak / 1e9:.0f} GOP/s" for name, peak in machine.peaks.items())
    where = f"{machine.gpu}: " if machine.gpu else ""
    return f"roofline  {where}memory read {machine.read / 1e9:.1f} GB/s; large products: {peaks}"


def measure(threads: int, device: str) -> Machine:
    wanted = json.dumps({"threads": threads, "device": device})
    answer: dict[str, Any] = json.loads(processes.run_module("bench.engine.roofline", wanted, TIMEOUT_S))
    return Machine(**answer)


def _fastest(work: Callable[[], object]) -> float:
    work()
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def _read() -> float:
    import torch

    memory = mmap.mmap(-1, MEMORY_BYTES)
    # As weights should lie: with small pages a good part of the time goes into finding them.
    memory.madvise(mmap.MADV_HUGEPAGE)
    numbers = torch.frombuffer(memory, dtype=torch.float32)
    numbers.fill_(1.0)
    half = len(numbers) // 2
    return MEMORY_BYTES / _fastest(lambda: torch.dot(numbers[:half], numbers[half:]))


def _peaks() -> dict[str, float]:
    """Of the libraries that torch brings; an engine with better kernels may come above."""
    import torch

    operations = 2.0 * GEMM_SIZE**3
    wide = torch.randn(GEMM_SIZE, GEMM_SIZE).bfloat16()
    packed = torch.ops.mkldnn._reorder_linear_weight(wide)
    narrow = torch.randint(-100, 100, (GEMM_SIZE, GEMM_SIZE), dtype=torch.int8)
    # Which of its libraries torch multiplies with depends on how it is asked; the quicker counts.
    ways = {
        "bfloat16": (
            lambda: wide @ wide,
            lambda: torch.ops.mkldnn._linear_pointwise(wide, packed, None, "none", [], ""),
        ),
        "int8": (lambda: torch._int_mm(narrow, narrow),),
    }
    return {name: operations / min(map(_fastest, calls)) for name, calls in ways.items()}


def _read_gpu() -> float:
    import torch

    numbers = torch.ones(MEMORY_BYTES // 2, dtype=torch.bfloat16, device="cuda")
    # Read once and written once.
    other = torch.empty_like(numbers)

    def copy() -> None:
        other.copy_(numbers)
        torch.cuda.synchronize()

    return 2 * MEMORY_BYTES / _fastest(copy)


def _peaks_gpu() -> dict[str, float]:
    import torch

    wide = torch.randn(2 * GEMM_SIZE, 2 * GEMM_SIZE, device="cuda").bfloat16()

    def multiply() -> None:
        wide @ wide
        torch.cuda.synchronize()

    return {"bfloat16": 2.0 * len(wide) ** 3 / _fastest(multiply)}


def main() -> None:
    import torch

    wanted = json.loads(sys.stdin.read())
    torch.set_num_threads(wanted["threads"])
    on_cpu = wanted["device"] == "cpu"
    machine = Machine(_read(), _peaks()) if on_cpu else Machine(_read_gpu(), _peaks_gpu(), torch.cuda.get_device_name())
    print(json.dumps(asdict(machine)))


if __name__ == "__main__":
    main()
