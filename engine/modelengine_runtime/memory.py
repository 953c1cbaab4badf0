"""Gives memory back to the system that this process has no use for any more. Where that can't be, nothing happens."""

from __future__ import annotations

import ctypes
import mmap
from pathlib import Path

import torch

MAPS = Path("/proc/self/maps")
WEIGHTS_FILE = ".safetensors"


def forget_file(tensor: torch.Tensor) -> None:
    """Drops the pages of a tensor that lies in a mapped file of weights; whoever reads it again gets it from there."""
    begin = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
    end = (tensor.data_ptr() + tensor.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
    # Only there: elsewhere the numbers would be lost.
    if begin < end and _is_mapped(begin, end):
        ctypes.CDLL(None).madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), mmap.MADV_DONTNEED)


def _is_mapped(begin: int, end: int) -> bool:
    try:
        lines = MAPS.read_text().splitlines()
    except OSError:
        return False
    ranges = (line.split()[0].split("-") for line in lines if line.endswith(WEIGHTS_FILE))
    return any(int(first, 16) <= begin and end <= int(last, 16) for first, last in ranges)


def trim() -> None:
    """Gives back what was freed and kept for later."""
    trim_heap = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim_heap is not None:
        trim_heap(0)
