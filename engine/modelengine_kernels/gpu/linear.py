"""Linear layers on a GPU whose rows are computed in one way, however many there are."""

# mypy: disable-error-code="no-untyped-def,no-any-return,untyped-decorator"
from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
import triton
import triton.language as tl


# Made once, and not again for numbers of rows that some power of two divides.
@triton.jit(do_not_specialize=["rows"])
def _linear(
    x, weight, bias, out, rows, outputs, inputs,
    HAS_BIAS: tl.constexpr, WHOLE: tl.constexpr, ROWS: tl.constexpr, OUTPUTS: tl.constexpr, INPUTS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    output = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    is_row, is_output = row < rows, output < outputs
    from_x = x + row.to(tl.int64)[:, None] * inputs
    from_weight = weight + output.to(tl.int64)[None, :] * inputs
    sums = tl.zeros((ROWS, OUTPUTS), dtype=tl.float32)
    for first in range(0, inputs, INPUTS):
        at = first + tl.arange(0, INPUTS)
        if WHOLE:
            a = tl.load(from_x + at[None, :], mask=is_row[:, None], other=0.0)
            b = tl.load(from_weight + at[:, None], mask=is_output[None, :], other=0.0)
        else:
            a = tl.load(from_x + at[None, :], mask=is_row[:, None] & (at < inputs)[None, :], other=0.0)
            b = tl.load(from_weight + at[:, None], mask=is_output[None, :] & (at < inputs)[:, None], other=0.0)
        sums = tl.dot(a, b, sums, input_precision="ieee")
    if HAS_BIAS:
        sums += tl.load(bias + output, mask=is_output, other=0.0).to(tl.float32)[None, :]
    to = out + row.to(tl.int64)[:, None] * outputs + output[None, :]
    tl.store(to, sums.to(out.dtype.element_ty), mask=is_row[:, None] & is_output[None, :])


@dataclass(frozen=True, slots=True)
class Tiles:
    """What one program computes (`rows` x `outputs`, `inputs` at a time), by how many warps, so many loads ahead."""

    rows: int
    outputs: int
    inputs: int
    warps: int
    stages: int

    def programs(self, rows: int, outputs: int) -> int:
        return -(-rows // self.rows) * -(-outputs // self.outputs)


# From the most work at once to the least. Each product of a tile's rows adds up its inputs one after the other, so that
# all tiles give the same bits: on Hopper, every one of these was found to.
FEW_ROWS = (
    Tiles(16, 64, 128, warps=4, stages=3),
    Tiles(16, 32, 128, warps=4, stages=8),
    Tiles(16, 16, 128, warps=4, stages=3),
)
MANY_ROWS = (
    Tiles(128, 128, 64, warps=8, stages=3),
    Tiles(64, 128, 64, warps=4, stages=4),
    Tiles(64, 64, 128, warps=4, stages=4),
    Tiles(64, 32, 128, warps=4, stages=6),
    Tiles(64, 16, 128, warps=4, stages=3),
)
FLOAT32 = Tiles(64, 32, 32, warps=4, stages=2)


@functools.cache
def tiles(rows: int, outputs: int, dtype: torch.dtype, processors: int) -> Tiles:
    """The largest that still give half of the GPU's processors something to do."""
    if dtype == torch.float32:
        return FLOAT32
    fitting = FEW_ROWS if rows <= 16 else MANY_ROWS[rows <= 64 :]
    return next((t for t in fitting if 2 * t.programs(rows, outputs) >= processors), fitting[-1])


@functools.cache
def _processors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count


def linear(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, shape: Tiles | None = None
) -> torch.Tensor:
    """`x @ weight.T + bias`: `[..., outputs]` from `[..., inputs]` and `[outputs, inputs]`."""
    outputs, inputs = weight.shape
    dense = x.contiguous()
    rows = dense.numel() // inputs
    out = torch.empty((*x.shape[:-1], outputs), dtype=x.dtype, device=x.device)
    shape = shape or tiles(rows, outputs, x.dtype, _processors(x.device))
    _linear[(triton.cdiv(outputs, shape.outputs), triton.cdiv(rows, shape.rows))](
        dense,
        weight,
        weight if bias is None else bias,
        out,
        rows,
        outputs,
        inputs,
        HAS_BIAS=bias is not None,
        WHOLE=inputs % shape.inputs == 0,
        ROWS=shape.rows,
        OUTPUTS=shape.outputs,
        INPUTS=shape.inputs,
        num_warps=shape.warps,
        num_stages=shape.stages,
    )
    return out
