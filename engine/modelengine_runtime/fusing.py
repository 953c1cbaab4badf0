"""Runs a model's small steps in fewer passes, whatever its architecture, by replacing what proves to be the same.

Nothing is known by the name of a model. A normalization is replaced where its own result on random numbers is that of
the fused one; linear layers are joined where a trial run shows that they get the same input; rotary positions where the
function that does them gives the same. What does not match stays as it is, and the loader's self-check comes after all.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from modelengine_kernels import elementwise
from modelengine_kernels.gpu.layers import DenseLinear
from modelengine_kernels.linear import PackedLinear
from modelengine_runtime import memory

log = logging.getLogger(__name__)

# How far a fused step may be off, root mean square in shares of the result. Where numbers are narrow a last digit tips
# some into the next step; another function is off by far more.
CLOSE, NEAR = 1e-4, 0.02
ROTATION = "apply_rotary_pos_emb"
LINEARS = PackedLinear | DenseLinear


def fuse(model: PreTrainedModel, run: Callable[[], object]) -> None:
    """`run` is a short trial run of the model."""
    gates = fuse_gates(model)
    joined = join_linears(model, run)
    norms = fuse_norms(model)
    rotations = fuse_rotations(model)
    log.info("fused %d gates, %d joins, %d normalizations, %d rotations", gates, joined, norms, rotations)


class FusedNorm(nn.Module):
    """Root mean square normalization; `offset` 1 is for models that keep their weights less one."""

    weight: torch.Tensor

    def __init__(self, original: nn.Module, weight: torch.Tensor, eps: float, offset: float) -> None:
        super().__init__()
        self.original = original
        self.weight = weight
        self.eps, self.offset = eps, offset

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # The weight was looked at when this was made.
        if not elementwise.is_supported(x):
            result: torch.Tensor = self.original(x)
            return result
        return elementwise.rms_norm(x, self.weight, self.eps, self.offset)


def fuse_norms(model: nn.Module) -> int:
    count = 0
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            fused = _fused_norm(child)
            if fused is not None:
                setattr(module, name, fused)
                count += 1
    return count


@torch.inference_mode()
def _fused_norm(norm: nn.Module) -> FusedNorm | None:
    """The same normalization fused, or None for what is none, or another one."""
    weight = getattr(norm, "weight", None)
    eps = getattr(norm, "variance_epsilon", None) or getattr(norm, "eps", None)
    if not isinstance(eps, float) or not isinstance(weight, torch.Tensor) or isinstance(norm, FusedNorm):
        return None
    if weight.ndim != 1 or not elementwise.is_supported(weight) or list(norm.children()):
        return None
    trial = _random(1, 3, len(weight), like=weight)
    try:
        expected = norm(trial)
    except Exception:
        return None
    for offset in (0.0, 1.0):
        fused = FusedNorm(norm, weight, eps, offset)
        if _is_close(fused(trial), expected, _tolerance(weight.dtype)):
            return fused
    return None


class FusedGate(nn.Module):
    """A gated feed-forward layer: `down(silu(gate(x)) * up(x))`."""

    def __init__(self, original: Any) -> None:
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = original.gate_proj, original.up_proj, original.down_proj

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate, up = self.gate_proj(x), self.up_proj(x)
        if x.ndim == 3 and x.shape[0] == 1 and elementwise.is_supported(gate, up):
            result: torch.Tensor = self.down_proj(elementwise.silu_times(gate, up))
        else:
            result = self.down_proj(nn.functional.silu(gate) * up)
        return result


@torch.inference_mode()
def fuse_gates(model: nn.Module) -> int:
    count = 0
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            layers = {part: inner for part, inner in child.named_children() if isinstance(inner, LINEARS)}
            if layers.keys() != {"gate_proj", "up_proj", "down_proj"}:
                continue
            gate = layers["gate_proj"]
            trial = _random(1, 3, gate.in_features, like=gate.weight)
            fused = FusedGate(child)
            if _is_close(fused(trial), child(trial), CLOSE if gate.bits == 32 else NEAR):
                setattr(module, name, fused)
                count += 1
    return count


class _Shared:
    """Linear layers with one input, as one layer: computed when the first is asked, and handed out to the others."""

    def __init__(self, layers: list[Any]) -> None:
        first = layers[0]
        self.whole = type(first).joined(layers)
        starts = [0]
        for layer in layers:
            starts.append(starts[-1] + layer.padded_features)
        self._slices = [slice(start, start + layer.out_features) for start, layer in zip(starts, layers, strict=False)]
        assert self.whole.in_features == first.in_features
        self._input: torch.Tensor | None = None
        self._results: list[torch.Tensor | None] = []

    def result(self, index: int, x: torch.Tensor) -> torch.Tensor:
        if self._input is not x or self._results[index] is None:
            all_results = self.whole(x)
            self._input, self._results = x, [all_results[..., part] for part in self._slices]
        result = self._results[index]
        assert result is not None
        self._results[index] = None
        if not any(waiting is not None for waiting in self._results):
            self._input = None
        return result


class SharedLinear(nn.Module):
    def __init__(self, shared: _Shared, index: int, out_features: int) -> None:
        super().__init__()
        self.out_features = out_features
        self._shared, self._index = shared, index
        if index == 0:
            # Only here, so that its weights count once.
            self.whole = shared.whole

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._shared.result(self._index, x)


def join_linears(model: nn.Module, run: Callable[[], object]) -> int:
    """Joins the packed layers of one parent that a trial run gives the same tensor."""
    inputs = _inputs(model, run)
    parents = [module for module in model.modules() if any(isinstance(x, LINEARS) for x in module.children())]
    count = 0
    for parent in parents:
        groups: dict[torch.Tensor, list[str]] = {}
        for name, child in parent.named_children():
            if id(child) in inputs:
                groups.setdefault(inputs[id(child)], []).append(name)
        for names in groups.values():
            if len(names) > 1:
                _join(parent, names)
                # What each had is free now, but the heap keeps it, and together that is as much as all of them.
                memory.trim()
                count += 1
    return count


def _inputs(model: nn.Module, run: Callable[[], object]) -> dict[int, torch.Tensor]:
    """What each packed layer of the model, by its id, gets in a trial run."""
    inputs: dict[int, torch.Tensor] = {}

    def note(module: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        inputs[id(module)] = arguments[0]

    layers = [module for module in model.modules() if isinstance(module, LINEARS)]
    hooks = [layer.register_forward_pre_hook(note) for layer in layers]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return inputs


def _join(parent: nn.Module, names: Sequence[str]) -> None:
    """Nothing else may hold the layers: so the memory never has all of them twice, but only these."""
    layers = [getattr(parent, name) for name in names]
    shared = _Shared(layers)
    for index, (name, layer) in enumerate(zip(names, layers, strict=True)):
        setattr(parent, name, SharedLinear(shared, index, layer.out_features))


def fuse_rotations(model: nn.Module) -> int:
    """Puts a faster function in the place of the one by which the model's own code turns queries and keys."""
    names = {type(module).__module__ for module in model.modules()}
    like = next(model.parameters())
    count = 0
    for name in sorted(names):
        code = sys.modules[name]
        original = getattr(code, ROTATION, None)
        if original is None or isinstance(original, _Rotation) or not _turns_halves(original, like):
            continue
        setattr(code, ROTATION, _Rotation(original))
        count += 1
    return count


class _Rotation:
    def __init__(self, original: Callable[..., Any]) -> None:
        self._original = original

    def __call__(
        self, q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, *more: Any, **others: Any
    ) -> Any:
        is_plain = (
            not more
            and not others
            and q.ndim == k.ndim == 4
            and q.shape[0] == k.shape[0] == 1
            and cos.shape == sin.shape == (1, q.shape[2], q.shape[3])
            and q.shape[2:] == k.shape[2:]
            and elementwise.is_supported(q, k, cos, sin)
            and cos.is_contiguous()
            and sin.is_contiguous()
        )
        if not is_plain:
            return self._original(q, k, cos, sin, *more, **others)
        return elementwise.rotate_both(q, k, cos, sin)


@torch.inference_mode()
def _turns_halves(rotation: Callable[..., Any], like: torch.Tensor) -> bool:
    """Whether the function turns pairs of the two halves: other models pair neighbours."""
    # No two alike: else a function that takes one for the other would pass.
    q, k = _random(1, 4, 3, 16, like=like, seed=0), _random(1, 2, 3, 16, like=like, seed=1)
    cos, sin = _random(1, 3, 16, like=like, seed=2), _random(1, 3, 16, like=like, seed=3)
    try:
        expected = rotation(q, k, cos, sin)
        found = elementwise.rotate_both(q, k, cos, sin)
    except Exception:
        return False
    return all(_is_close(a, b, _tolerance(q.dtype)) for a, b in zip(found, expected, strict=True))


def _random(*shape: int, like: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """Random numbers as they go into a layer with such weights: packed ones take float32."""
    dtype = like.dtype if like.is_floating_point() else torch.float32
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(like.device, dtype)


def _tolerance(dtype: torch.dtype) -> float:
    return CLOSE if dtype == torch.float32 else NEAR


def _is_close(found: torch.Tensor, expected: torch.Tensor, most: float = CLOSE) -> bool:
    return found.shape == expected.shape and bool((found - expected).norm() <= most * expected.norm())
