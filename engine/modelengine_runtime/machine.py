"""What this machine, or this container of it, really has: cores and memory that we may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

import psutil
import torch

CGROUP = Path("/sys/fs/cgroup")
# cgroup v1 writes "no limit" as a number near 2**63.
NO_LIMIT = 1 << 60


def cpu_limit() -> int:
    """Cores to compute on: the affinity of this process, cut to the cgroup's quota; at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup_quota()
    return max(1, cores if quota is None else min(cores, math.ceil(quota)))


def _cgroup_quota() -> float | None:
    """Cores that the cgroup (v2, else v1) allows, None without a limit."""
    v2 = _words(CGROUP / "cpu.max")
    if v2 and v2[0] != "max":
        return int(v2[0]) / int(v2[1])
    quota, period = _words(CGROUP / "cpu/cpu.cfs_quota_us"), _words(CGROUP / "cpu/cpu.cfs_period_us")
    if quota and period and int(quota[0]) > 0:
        return int(quota[0]) / int(period[0])
    return None


def free_memory_bytes(device: str) -> int:
    """Memory that caches may take: the GPU's free memory, or the machine's cut to the cgroup's limit."""
    if device.startswith("cuda"):
        free, _ = torch.cuda.mem_get_info(torch.device(device))
        return int(free)
    available = int(psutil.virtual_memory().available)
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        limit = _words(CGROUP / name)
        if limit and limit[0] != "max" and int(limit[0]) < NO_LIMIT:
            return min(available, max(0, int(limit[0]) - psutil.Process().memory_info().rss))
    return available


def has_fast_bfloat16() -> bool:
    """Whether this CPU computes in bfloat16 itself; otherwise it would be emulated, slower than float32."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
