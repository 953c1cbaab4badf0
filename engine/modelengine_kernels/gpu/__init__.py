"""Kernels for a GPU, in Triton, whose results for a row do not depend on what else is in the batch.

Each has one way to compute a row, whatever the number of rows: torch's own layers choose another for other numbers, in
another order of arithmetic, and so another rounding (Thinking Machines, "Defeating Nondeterminism in LLM Inference",
2025).
"""

from __future__ import annotations

import functools
import logging
import sys
from pathlib import Path

import torch

log = logging.getLogger(__name__)

DEVICE = "cuda"
# What Triton would compile first: its module over the GPU's driver. The engine's image has it made (engine/Dockerfile).
DRIVER = "cuda_utils"
COMPILED = Path(sys.prefix) / "lib/triton_cuda_utils.so"
TYPES = (torch.float32, torch.bfloat16, torch.float16)


def is_supported(*tensors: torch.Tensor) -> bool:
    """Whether the kernels here take these."""
    return (
        all(tensor.device.type == DEVICE and tensor.dtype in TYPES and tensor.stride(-1) == 1 for tensor in tensors)
        and works()
    )


@functools.cache
def works() -> bool:
    """Whether kernels can be compiled here: Triton needs a C compiler, or what one has made before."""
    try:
        _use_what_is_compiled()
        from modelengine_kernels.gpu import elementwise

        x = torch.ones((1, 1, 16), device=DEVICE)
        elementwise.silu_times(x, x)
    except Exception as failure:  # Whatever a compiler, a driver or their absence raise.
        log.warning("no kernels for the GPU, torch alone: %s", str(failure).strip().partition("\n")[0])
        return False
    log.info("kernels for the GPU: Triton")
    return True


def _use_what_is_compiled() -> None:
    if not COMPILED.exists():
        return
    from triton import knobs

    def build(name: str, *_: object) -> str:
        if name != DRIVER:
            raise RuntimeError(f"there is no compiler for {name}")
        return str(COMPILED)

    knobs.build.impl = build
