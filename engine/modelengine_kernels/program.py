"""A list of kernel calls that runs as one: what a model's pass comes to, without Python between the calls."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from modelengine_kernels.attention import Plan
from modelengine_kernels.library import TYPES, load, threads
from modelengine_kernels.tape import Operation

MAX_INPUTS, MAX_WEIGHTS, MAX_SIZES, MAX_NUMBERS = 3, 3, 6, 2
# Columns are counted in whole lines of the cache.
LINE = 16


@dataclass(frozen=True, slots=True)
class Columns:
    """Of a buffer, from `offset` on; `stride` numbers lie between the begins of two parts (heads) of a row."""

    buffer: int
    offset: int = 0
    stride: int = 0


@dataclass(frozen=True, slots=True)
class Instruction:
    """What `sizes` and `numbers` mean is up to the operation (program.cpp). `weights` are addresses, 0 for none."""

    operation: Operation
    inputs: tuple[Columns, ...]
    output: int
    weights: tuple[int, ...] = ()
    sizes: tuple[int, ...] = ()
    numbers: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Buffer:
    """A result: so many float32 in each row. Its rows are the step's tokens, or those of them that are selected."""

    columns: int
    is_selected: bool = False


class _Columns(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in ("buffer", "offset", "stride")]


class _Instruction(ctypes.Structure):
    _fields_ = [
        ("operation", ctypes.c_int64),
        ("inputs", _Columns * MAX_INPUTS),
        ("output", ctypes.c_int64),
        ("weights", ctypes.c_void_p * MAX_WEIGHTS),
        ("sizes", ctypes.c_int64 * MAX_SIZES),
        ("numbers", ctypes.c_float * MAX_NUMBERS),
    ]


class _Buffer(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in ("columns", "is_selected", "start")]


class _Pass(ctypes.Structure):
    _fields_ = [
        ("tokens", ctypes.c_void_p),
        ("positions", ctypes.c_void_p),
        ("rows", ctypes.c_int64),
        ("selected", ctypes.c_void_p),
        ("selected_rows", ctypes.c_int64),
        ("plan", ctypes.c_void_p),
        ("sequences", ctypes.c_int64),
        ("blocks", ctypes.c_void_p),
        ("caches", ctypes.c_void_p),
        ("cache_type", ctypes.c_int64),
        ("tables", ctypes.c_void_p),
        ("out", ctypes.c_void_p),
        ("threads", ctypes.c_int64),
    ]


class Program:
    """The last instruction's result is the program's. The weights must outlive it."""

    def __init__(self, instructions: Sequence[Instruction], buffers: Sequence[Buffer]) -> None:
        library = load()
        assert library is not None
        starts, columns = places(instructions, buffers)
        self.columns_out = buffers[instructions[-1].output].columns
        self._run = library.me_program_run
        self._free = library.me_program_free
        self._handle = library.me_program_new(
            (_Instruction * len(instructions))(*map(_as_structure, instructions)),
            len(instructions),
            (_Buffer * len(buffers))(
                *(_Buffer(b.columns, b.is_selected, start) for b, start in zip(buffers, starts, strict=True))
            ),
            len(buffers),
            columns,
        )

    def __del__(self) -> None:
        self._free(self._handle)

    def run(
        self,
        tokens: Sequence[int],
        positions: Sequence[int],
        selected: Sequence[int],
        plan: Plan,
        caches: Sequence[tuple[torch.Tensor, torch.Tensor]],
        tables: Sequence[torch.Tensor],
    ) -> torch.Tensor:
        """float32 `[selected rows, columns of the result]`. `caches` has a layer's keys and values at its index, and
        `tables` rows by position. Raises MemoryError."""
        token_ids = torch.tensor(tokens, dtype=torch.int64)
        places = torch.tensor(positions, dtype=torch.int32)
        rows = torch.tensor(selected, dtype=torch.int64)
        result = torch.empty((len(selected), self.columns_out))
        # Held by a name for as long as the call takes.
        cache_addresses = _addresses([tensor for pair in caches for tensor in pair])
        table_addresses = _addresses(tables)
        step = _Pass(
            tokens=token_ids.data_ptr(),
            positions=places.data_ptr(),
            rows=len(tokens),
            selected=rows.data_ptr(),
            selected_rows=len(selected),
            plan=plan.rows.data_ptr(),
            sequences=plan.count,
            blocks=plan.blocks.data_ptr(),
            caches=ctypes.addressof(cache_addresses),
            cache_type=TYPES[caches[0][0].dtype],
            tables=ctypes.addressof(table_addresses),
            out=result.data_ptr(),
            threads=threads(),
        )
        if self._run(self._handle, ctypes.byref(step)):
            raise MemoryError(f"no memory for the intermediate results of {len(tokens)} tokens")
        return result


def places(instructions: Sequence[Instruction], buffers: Sequence[Buffer]) -> tuple[list[int], int]:
    """Where each buffer begins, and how much they take together, in columns: each only for as long as it is needed."""
    last_use = [0] * len(buffers)
    for time, instruction in enumerate(instructions):
        for columns in instruction.inputs:
            last_use[columns.buffer] = time
        last_use[instruction.output] = max(last_use[instruction.output], time)
    starts = [0] * len(buffers)
    # (begin, end, last use) of what lies there, in order.
    taken: list[tuple[int, int, int]] = []
    total = 0
    for time, instruction in enumerate(instructions):
        taken = [place for place in taken if place[2] >= time]
        size = -(-buffers[instruction.output].columns // LINE) * LINE
        start = 0
        for begin, end, _ in taken:
            if begin - start >= size:
                break
            start = end
        starts[instruction.output] = start
        taken = sorted([*taken, (start, start + size, last_use[instruction.output])])
        total = max(total, start + size)
    return starts, total


def _addresses(tensors: Sequence[torch.Tensor]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(tensors))(*[tensor.data_ptr() for tensor in tensors])


def _as_structure(instruction: Instruction) -> _Instruction:
    structure = _Instruction(operation=instruction.operation, output=instruction.output)
    for index, columns in enumerate(instruction.inputs):
        structure.inputs[index] = _Columns(columns.buffer, columns.offset, columns.stride)
    for index, weight in enumerate(instruction.weights):
        structure.weights[index] = weight
    for index, size in enumerate(instruction.sizes):
        structure.sizes[index] = size
    for index, number in enumerate(instruction.numbers):
        structure.numbers[index] = number
    return structure
