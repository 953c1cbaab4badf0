"""What stands between the large steps of a layer, each in one pass: float32 on a CPU, by the compiled kernels; what the
kernels for a GPU take there. `is_supported` says for what."""

from __future__ import annotations

from typing import Any

import torch

from modelengine_kernels import gpu, tape
from modelengine_kernels.library import load, threads
from modelengine_kernels.tape import Call, Operation


def is_supported(*tensors: torch.Tensor) -> bool:
    if tensors[0].device.type == gpu.DEVICE:
        return gpu.is_supported(*tensors)
    return load() is not None and all(
        tensor.dtype == torch.float32 and tensor.device.type == "cpu" and tensor.stride(-1) == 1 for tensor in tensors
    )


def _on_gpu() -> Any:
    # Only where there is one: Triton is not everywhere, and takes its time.
    from modelengine_kernels.gpu import elementwise

    return elementwise


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float, offset: float) -> torch.Tensor:
    """`x / rms(x) * (weight + offset)` over the last dimension of `[1, rows, dim]` or `[1, rows, heads, dim]`."""
    if x.device.type == gpu.DEVICE:
        on_gpu: torch.Tensor = _on_gpu().rms_norm(x, weight, eps, offset)
        return on_gpu
    library = load()
    assert library is not None
    shape, dim = x.shape, x.shape[-1]
    if not (x.shape[0] == 1 and x.ndim in (3, 4) and (x.ndim == 3 or x.stride(2) == dim)):
        x = x.reshape(1, -1, dim)
    result = torch.empty(x.shape)
    _, rows, *parts, _ = x.shape
    if tape.leaves_out(
        lambda: Call(Operation.RMS_NORM, (x[0],), result[0], (weight,), (parts[0] if parts else 1, dim), (eps, offset))
    ):
        return result.view(shape)
    library.me_rms_norm(
        x.data_ptr(),
        x.stride(1),
        weight.data_ptr(),
        result.data_ptr(),
        rows,
        parts[0] if parts else 1,
        dim,
        eps,
        offset,
        threads(),
    )
    return result.view(shape)


def silu_times(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """`silu(gate) * up`, for `[1, rows, dim]` whose rows may have gaps between them."""
    if gate.device.type == gpu.DEVICE:
        on_gpu: torch.Tensor = _on_gpu().silu_times(gate, up)
        return on_gpu
    library = load()
    assert library is not None
    _, rows, dim = gate.shape
    result = torch.empty((1, rows, dim))
    if tape.leaves_out(lambda: Call(Operation.SILU_TIMES, (gate[0], up[0]), result[0], (), (dim,))):
        return result
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


def rotate_both(
    q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """`rotate` of queries and keys, which may have other numbers of heads."""
    if q.device.type == gpu.DEVICE:
        both: tuple[torch.Tensor, torch.Tensor] = _on_gpu().rotate_both(q, k, cos, sin)
        return both
    return rotate(q, cos, sin), rotate(k, cos, sin)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary positions of `x` `[1, heads, rows, dim]`; `cos` and `sin` are `[1, rows, dim]`, halves make the pairs."""
    library = load()
    assert library is not None
    _, heads, rows, dim = x.shape
    result = torch.empty((1, rows, heads, dim))
    if tape.leaves_out(
        lambda: Call(Operation.ROTATE, (x[0].transpose(0, 1), cos[0], sin[0]), result[0], (), (heads, dim))
    ):
        return result.transpose(1, 2)
    library.me_rotate(
        x.data_ptr(),
        x.stride(2),
        x.stride(1),
        cos.data_ptr(),
        sin.data_ptr(),
        None,
        result.data_ptr(),
        rows,
        heads,
        dim,
        threads(),
    )
    return result.transpose(1, 2)
