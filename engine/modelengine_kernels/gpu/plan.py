"""Tells the attention on a GPU whose rows are where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Plan:
    """Whose rows are where, for all layers of one step: int64 on the device.

    `positions` and `owners` `[rows]`: where each row stands in its sequence, and which that is, -1 for none;
    `sequences` `[count, 3]`: first row, row behind the last, and where in `blocks` its table begins. Keys come in
    `partitions` of `partition` each, which programs side by side take.
    """

    positions: torch.Tensor
    owners: torch.Tensor
    sequences: torch.Tensor
    blocks: torch.Tensor
    partition: int
    partitions: int


def lay_out(
    rows: int, sequences: Sequence[tuple[int, int, int, Sequence[int]]]
) -> tuple[list[int], list[int], list[int]]:
    """`owners` of so many rows, `sequences` and `blocks` of a Plan, from (begin, count, start, block table) of each."""
    owners, spans, blocks = [-1] * rows, list[int](), list[int]()
    for index, (begin, count, _, table) in enumerate(sequences):
        owners[begin : begin + count] = [index] * count
        spans += begin, begin + count, len(blocks)
        blocks += table
    return owners, spans, blocks
