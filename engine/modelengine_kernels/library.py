"""Finds the compiled kernels that this processor can run; says what their functions take, and their threads."""

from __future__ import annotations

import ctypes
import functools
import logging
import os
from pathlib import Path

import torch

log = logging.getLogger(__name__)

VARIABLE = "MODELENGINE_KERNELS"
# The best first; what each needs of the processor, in Linux's words.
NEEDS = {
    "avx512": {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512cd", "avx512_vnni"},
    "avx2": {"avx2", "fma", "bmi2", "f16c"},
    "neon": {"asimd"},
}
TYPES = {torch.float32: 0, torch.bfloat16: 1}

_POINTER, _INT64, _FLOAT, _INT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float, ctypes.c_int
_SIGNATURES = {
    "me_attention": [*[_POINTER] * 5, _INT64, _POINTER, _INT, _INT],
    "me_linear": [*[_POINTER] * 5, *[_INT64] * 3, _INT, _INT],
    "me_pack": [_POINTER, _INT64, _INT64, _INT, _INT, _POINTER, _POINTER, _INT],
    "me_unpack_rows": [_POINTER, _POINTER, _INT64, _INT, _POINTER, _INT64, _POINTER],
    "me_rms_norm": [_POINTER, _INT64, _POINTER, _POINTER, *[_INT64] * 3, _FLOAT, _FLOAT, _INT],
    "me_silu_times": [_POINTER, _INT64, _POINTER, _INT64, _POINTER, _INT64, _INT64, _INT],
    "me_rotate": [_POINTER, _INT64, _INT64, *[_POINTER] * 4, *[_INT64] * 3, _INT],
    "me_sample": [_POINTER, _INT64, _INT64, _POINTER, _POINTER, _INT],
    "me_program_new": [_POINTER, _INT64, _POINTER, _INT64, _INT64],
    "me_program_free": [_POINTER],
    "me_program_run": [_POINTER, _POINTER],
}
_RESULTS = {"me_program_new": _POINTER, "me_program_run": _INT}


# Of the kernels' own pool, which is not torch's: see `set_threads`.
_threads = 1


def set_threads(count: int) -> None:
    """How many threads each kernel may use, of this process's one pool of them.

    torch should have one then: its threads spin while they wait for work, and would take the cores from these.
    """
    global _threads
    _threads = count


def threads() -> int:
    return _threads


@functools.cache
def load() -> ctypes.CDLL | None:
    """The kernels, or None where they are not built, not for this processor, or not wanted.

    MODELENGINE_KERNELS names one variant, or `none`.
    """
    wanted = os.environ.get(VARIABLE, "auto")
    has = processor_flags()
    for name, needs in NEEDS.items():
        path = Path(__file__).with_name(f"kernels-{name}.so")
        if wanted in ("auto", "require", name) and needs <= has and path.exists():
            library = ctypes.CDLL(str(path))
            for function, arguments in _SIGNATURES.items():
                getattr(library, function).argtypes = arguments
                getattr(library, function).restype = _RESULTS.get(function)
            log.info("kernels: %s", name)
            return library
    log.info("kernels: none, torch alone")
    return None


def processor_flags() -> set[str]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return set()
    lines = (line.partition(":") for line in text.splitlines())
    return next((set(value.split()) for key, _, value in lines if key.strip() in ("flags", "Features")), set())
