"""What stands between the large steps of a layer, each in one pass over the GPU's memory."""

# mypy: disable-error-code="no-untyped-def,no-any-return,untyped-decorator"
from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit
def _rms_norm(x, row_stride, part_stride, weight, out, parts, dim, eps, offset, WIDTH: tl.constexpr):
    row, part = tl.program_id(0), tl.program_id(1)
    at = tl.arange(0, WIDTH)
    inside = at < dim
    values = tl.load(x + row * row_stride + part * part_stride + at, mask=inside, other=0.0).to(tl.float32)
    scale = 1.0 / tl.sqrt(tl.sum(values * values) / dim + eps)
    factors = tl.load(weight + at, mask=inside, other=0.0).to(tl.float32) + offset
    tl.store(out + (row * parts + part) * dim + at, (values * scale * factors).to(out.dtype.element_ty), mask=inside)


@triton.jit
def _silu_times(gate, gate_stride, up, up_stride, out, dim, WIDTH: tl.constexpr):
    row = tl.program_id(0)
    at = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    inside = at < dim
    gates = tl.load(gate + row * gate_stride + at, mask=inside, other=0.0).to(tl.float32)
    ups = tl.load(up + row * up_stride + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * dim + at, (gates / (1.0 + tl.exp(-gates)) * ups).to(out.dtype.element_ty), mask=inside)


@triton.jit
def _rotate_both(
    q, q_row, q_head, k, k_row, k_head, cos, sin, q_out, k_out, q_heads, k_heads, half, HALF: tl.constexpr
):  # fmt: skip
    row, head = tl.program_id(0), tl.program_id(1)
    at = tl.arange(0, HALF)
    inside = at < half
    if head < q_heads:
        first, to = q + row * q_row + head * q_head, q_out + (row * q_heads + head) * 2 * half
    else:
        head -= q_heads
        first, to = k + row * k_row + head * k_head, k_out + (row * k_heads + head) * 2 * half
    a = tl.load(first + at, mask=inside).to(tl.float32)
    b = tl.load(first + half + at, mask=inside).to(tl.float32)
    angles = row * 2 * half + at
    cos_a, cos_b = tl.load(cos + angles, mask=inside), tl.load(cos + angles + half, mask=inside)
    sin_a, sin_b = tl.load(sin + angles, mask=inside), tl.load(sin + angles + half, mask=inside)
    turned_a = a * cos_a.to(tl.float32) - b * sin_a.to(tl.float32)
    turned_b = b * cos_b.to(tl.float32) + a * sin_b.to(tl.float32)
    tl.store(to + at, turned_a.to(q_out.dtype.element_ty), mask=inside)
    tl.store(to + half + at, turned_b.to(q_out.dtype.element_ty), mask=inside)


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float, offset: float) -> torch.Tensor:
    """`x / rms(x) * (weight + offset)` over the last dimension of `[1, rows, dim]` or `[1, rows, heads, dim]`."""
    shape, dim = x.shape, x.shape[-1]
    if not (x.shape[0] == 1 and x.ndim in (3, 4)):
        x = x.reshape(1, -1, dim)
    parts, part_stride = (x.shape[2], x.stride(2)) if x.ndim == 4 else (1, 0)
    out = torch.empty(shape, dtype=x.dtype, device=x.device)
    width = triton.next_power_of_2(dim)
    _rms_norm[(x.shape[1], parts)](x, x.stride(1), part_stride, weight, out, parts, dim, eps, offset, WIDTH=width)
    return out


def silu_times(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """`silu(gate) * up`, for `[1, rows, dim]` whose rows may have gaps between them."""
    _, rows, dim = gate.shape
    out = torch.empty((1, rows, dim), dtype=gate.dtype, device=gate.device)
    width = min(1024, triton.next_power_of_2(dim))
    _silu_times[(rows, triton.cdiv(dim, width))](gate, gate.stride(1), up, up.stride(1), out, dim, WIDTH=width)
    return out


def rotate_both(
    q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotary positions of `[1, heads, rows, dim]`; `cos` and `sin` are `[1, rows, dim]`, halves make the pairs."""
    _, q_heads, rows, dim = q.shape
    k_heads = k.shape[1]
    q_out = torch.empty((1, rows, q_heads, dim), dtype=q.dtype, device=q.device)
    k_out = torch.empty((1, rows, k_heads, dim), dtype=q.dtype, device=q.device)
    half = triton.next_power_of_2(dim // 2)
    _rotate_both[(rows, q_heads + k_heads)](
        q, q.stride(2), q.stride(1), k, k.stride(2), k.stride(1), cos, sin, q_out, k_out, q_heads, k_heads, dim // 2,
        HALF=half,
        num_warps=1,
    )  # fmt: skip
    return q_out.transpose(1, 2), k_out.transpose(1, 2)
