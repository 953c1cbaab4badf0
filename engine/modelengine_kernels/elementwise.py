"""What stands between the large steps of a layer, each in one pass. float32 on a CPU; `is_supported` says for what."""

from __future__ import annotations

import torch

from modelengine_kernels.library import load, threads


def is_supported(*tensors: torch.Tensor) -> bool:
    return load() is not None and all(
        tensor.dtype == torch.float32 and tensor.device.type == "cpu" and tensor.stride(-1) == 1 for tensor in tensors
    )


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float, offset: float) -> torch.Tensor:
    """`x / rms(x) * (weight + offset)` over the last dimension."""
    library = load()
    assert library is not None
    rows = x if x.is_contiguous() else x.contiguous()
    result = torch.empty_like(rows)
    dim = x.shape[-1]
    library.me_rms_norm(
        rows.data_ptr(),
        dim,
        weight.data_ptr(),
        result.data_ptr(),
        rows.numel() // dim,
        dim,
        eps,
        offset,
        threads(),
    )
    return result


def silu_times(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """`silu(gate) * up`, for `[1, rows, dim]` whose rows may have gaps between them."""
    library = load()
    assert library is not None
    _, rows, dim = gate.shape
    result = torch.empty((1, rows, dim))
    library.me_silu_times(
        gate.data_ptr(),
        gate.stride(1),
        up.data_ptr(),
        up.stride(1),
        result.data_ptr(),
        rows,
        dim,
        threads(),
    )
    return result


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary positions of `x` `[1, heads, rows, dim]`; `cos` and `sin` are `[1, rows, dim]`, halves make the pairs."""
    library = load()
    assert library is not None
    _, heads, rows, dim = x.shape
    result = torch.empty((1, rows, heads, dim))
    library.me_rotate(
        x.data_ptr(),
        x.stride(2),
        x.stride(1),
        cos.data_ptr(),
        sin.data_ptr(),
        result.data_ptr(),
        rows,
        heads,
        dim,
        threads(),
    )
    return result.transpose(1, 2)
