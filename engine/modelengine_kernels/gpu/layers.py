"""Linear layers over the GPU's kernels, in the place of torch's own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from modelengine_kernels import gpu
from modelengine_kernels.linear import frozen


class DenseLinear(nn.Module):
    """nn.Linear over `linear`. `bits` and `padded_features` are as those of a PackedLinear."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        # Parameters stay what they are: some are shared.
        self.weight = weight if isinstance(weight, nn.Parameter) else frozen(weight)
        self.bias = bias if bias is None or isinstance(bias, nn.Parameter) else frozen(bias)
        self.out_features, self.in_features = weight.shape
        self.padded_features = self.out_features
        self.bits = 8 * weight.element_size()

    @classmethod
    def joined(cls, layers: Sequence[DenseLinear]) -> DenseLinear:
        """One layer whose outputs are those of the given ones."""
        bias = None
        if any(layer.bias is not None for layer in layers):
            zeros = [torch.zeros_like(layer.weight[:, 0]) for layer in layers]
            parts = [zero if layer.bias is None else layer.bias for layer, zero in zip(layers, zeros, strict=True)]
            bias = torch.cat(parts)
        return cls(torch.cat([layer.weight for layer in layers]), bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # Triton is not everywhere.
        from modelengine_kernels.gpu.linear import linear

        return linear(x, self.weight, self.bias)


def replace_linears(model: nn.Module) -> int:
    """Puts a DenseLinear over the same weights in the place of each nn.Linear; returns how many."""
    count = 0
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            # Exactly these: a subclass computes something else.
            if type(child) is nn.Linear and gpu.is_supported(child.weight):
                setattr(module, name, DenseLinear(child.weight, child.bias))
                count += 1
    return count
