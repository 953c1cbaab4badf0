"""Takes memory from the system before it is needed, and gives back what this process has no use for any more. Where
that can't be, nothing happens."""

from __future__ import annotations

import ctypes
import functools
import mmap
import sys
from pathlib import Path

import torch

MAPS = Path("/proc/self/maps")
WEIGHTS_FILE = ".safetensors"
# Of Linux 5.14 and newer; Python has no name for it.
MADV_POPULATE_WRITE = 23


def forget_file(tensor: torch.Tensor) -> None:
    """Drops the pages of a tensor that lies in a mapped file of weights; whoever reads it again gets it from there."""
    begin, end = _whole_pages(tensor)
    # Only there: elsewhere the numbers would be lost.
    if _is_mapped(begin, end):
        _advise(begin, end, mmap.MADV_DONTNEED)


def take(tensor: torch.Tensor) -> None:
    """Has the system find pages for a contiguous tensor now, which it otherwise does as each is first written to. What
    is in them stays, so others may write meanwhile."""
    if sys.platform == "linux":
        _advise(*_whole_pages(tensor), MADV_POPULATE_WRITE)


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def _whole_pages(tensor: torch.Tensor) -> tuple[int, int]:
    begin = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
    return begin, (tensor.data_ptr() + tensor.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE


def _advise(begin: int, end: int, advice: int) -> None:
    if begin < end:
        _libc().madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), advice)


def _is_mapped(begin: int, end: int) -> bool:
    try:
        lines = MAPS.read_text().splitlines()
    except OSError:
        return False
    ranges = (line.split()[0].split("-") for line in lines if line.endswith(WEIGHTS_FILE))
    return any(int(first, 16) <= begin and end <= int(last, 16) for first, last in ranges)


def trim() -> None:
    """Gives back what was freed and kept for later."""
    trim_heap = getattr(_libc(), "malloc_trim", None)
    if trim_heap is not None:
        trim_heap(0)
