"""From rows of scores to tokens, by the compiled kernel: one pass over each row, the rows side by side."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch

from modelengine_kernels.library import load, threads

NO_TOKEN = -1


class Draw(ctypes.Structure):
    """How a row's token is drawn (kernels.h): temperature, top_p, min_p, top_k and a random number in [0, 1)."""

    _fields_ = [
        ("temperature", ctypes.c_float),
        ("top_p", ctypes.c_float),
        ("min_p", ctypes.c_float),
        ("top_k", ctypes.c_int32),
        ("uniform", ctypes.c_double),
    ]


def is_supported(scores: torch.Tensor) -> bool:
    return load() is not None and scores.device.type == "cpu" and scores.dtype == torch.float32


def sample(scores: torch.Tensor, draws: Sequence[Draw]) -> list[int]:
    """A token for each row of `[rows, vocabulary]`; NO_TOKEN for a row whose best score is no finite number."""
    library = load()
    assert library is not None
    dense = scores.contiguous()
    rows, size = dense.shape
    tokens = (ctypes.c_int64 * rows)()
    library.me_sample(dense.data_ptr(), rows, size, (Draw * rows)(*draws), tokens, threads())
    return list(tokens)
