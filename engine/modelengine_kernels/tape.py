"""Lets somebody hear of every kernel call that this thread makes: recording.py makes programs of them."""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch


class Operation(enum.IntEnum):
    """As in program.cpp."""

    EMBED = 0
    RMS_NORM = 1
    LINEAR = 2
    ROTATE = 3
    ATTEND = 4
    SILU_TIMES = 5
    ADD = 6
    SELECT = 7


@dataclass(frozen=True, slots=True)
class Call:
    """Of tensors `[rows, dim]` or `[rows, heads, dim]`. `sizes` and `numbers` are the operation's own (program.cpp)."""

    operation: Operation
    inputs: Sequence[torch.Tensor]
    output: torch.Tensor
    weights: Sequence[torch.Tensor | None] = ()
    sizes: tuple[int, ...] = ()
    numbers: tuple[float, ...] = ()


class Listener(Protocol):
    def hear(self, call: Call) -> bool:
        """Whether the call is left out: its output then stays unwritten."""


class _Here(threading.local):
    listener: Listener | None = None


_here = _Here()


def leaves_out(call: Callable[[], Call]) -> bool:
    """Tells who listens of a call that is about to be made, and whether it is to be left out."""
    return _here.listener is not None and _here.listener.hear(call())


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    _here.listener = listener
    try:
        yield
    finally:
        _here.listener = None
