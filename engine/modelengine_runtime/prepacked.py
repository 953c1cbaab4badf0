"""Linear layers in the layout that oneDNN's CPU kernels read: faster, and each row's result is the same bit for bit
whatever shares its batch (the stock float32 and bfloat16 kernels change their order of summation with the batch)."""

from __future__ import annotations

import torch
from torch import nn

# The batch that oneDNN plans the layout for; the packed weight serves every batch.
PLANNED_ROWS = 8


class PrepackedLinear(nn.Module):
    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.out_features = linear.out_features
        self.weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), PLANNED_ROWS)
        self.bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
        return result


def is_available(dtype: torch.dtype) -> bool:
    """Whether this CPU and this build of torch run prepacked linears in `dtype`."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def prepack(model: nn.Module) -> int:
    """Replaces every linear layer of the model, one at a time so that memory holds one copy. Returns how many."""
    count = 0
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            # Exactly nn.Linear: a subclass computes something else.
            if type(child) is nn.Linear:
                setattr(module, name, PrepackedLinear(child))
                count += 1
    return count
