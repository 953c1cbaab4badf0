"""Lays a model's weights out for the kernels while its checkpoint is read: one tensor at a time, never a second copy.

A quantizer of transformers' own kind, which also serves for weights that stay as wide as they are: it replaces the
linear layers before the weights are read, and packs each weight as it comes. Embeddings are packed in the same way,
because many models share them with their head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.core_model_loading import ConversionOps
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.quantizers.quantizers_utils import get_module_from_name
from transformers.utils.quantization_config import QuantizationConfigMixin

from modelengine_kernels import library, linear
from modelengine_kernels.linear import MAX_INPUTS, PackedEmbedding, PackedLinear
from modelengine_runtime import memory

METHOD = "modelengine"
NONE = "none"
NARROW = {"int8": 8, "int4": 4}
WIDE = {torch.float32: 32, torch.bfloat16: 16}


def bits(device: str, dtype: torch.dtype, quantization: str) -> int:
    """In how many bits weights are packed; 0: not at all, as on a GPU, or without kernels."""
    if device != "cpu" or library.load() is None:
        return 0
    return NARROW.get(quantization) or WIDE.get(dtype, 0)


@register_quantization_config(METHOD)
class Packing(QuantizationConfigMixin):  # type: ignore[misc]  # transformers is untyped
    def __init__(self, bits: int, **_: Any) -> None:
        self.quant_method = METHOD
        self.bits = bits


@register_quantizer(METHOD)
class Packer(HfQuantizer):  # type: ignore[misc]
    def param_needs_quantization(self, model: PreTrainedModel, param_name: str, **_: Any) -> bool:
        module, name = get_module_from_name(model, param_name)
        return isinstance(module, PackedLinear | PackedEmbedding) and name == "weight"

    def get_quantize_ops(self) -> ConversionOps:
        return _Pack(self.quantization_config.bits)

    def _process_model_before_weight_loading(self, model: PreTrainedModel, **_: Any) -> None:
        tied = {name.rpartition(".")[0] for pair in model.all_tied_weights_keys.items() for name in pair}
        odd = {name for name in tied if type(model.get_submodule(name)) not in (nn.Linear, nn.Embedding)}
        for path, module in list(model.named_modules()):
            # What shares its weights with a table of another kind stays, and so does that.
            if path in tied and odd:
                continue
            packed = _packed(module, self.quantization_config.bits)
            if packed is not None:
                parent, _, name = path.rpartition(".")
                setattr(model.get_submodule(parent), name, packed)
        if not odd:
            pairs = model.all_tied_weights_keys.items()
            model.all_tied_weights_keys |= {_scales(target): _scales(source) for target, source in pairs}

    def _process_model_after_weight_loading(self, model: PreTrainedModel, **_: Any) -> None:
        for module in model.modules():
            if isinstance(module, PackedLinear) and module.bias is not None:
                # It comes in the checkpoint's own type.
                module.bias.data = module.bias.data.float()

    @property
    def is_trainable(self) -> bool:
        return False

    def is_serializable(self, **_: Any) -> bool:
        return False


def _packed(module: nn.Module, bits: int) -> nn.Module | None:
    # Exactly these: a subclass computes something else.
    with torch.device("meta"):
        if type(module) is nn.Linear and module.in_features <= MAX_INPUTS:
            return PackedLinear(module.in_features, module.out_features, bits, module.bias is not None)
        if type(module) is nn.Embedding:
            return PackedEmbedding(module.num_embeddings, module.embedding_dim, bits)
    return None


class _Pack(ConversionOps):  # type: ignore[misc]
    def __init__(self, bits: int) -> None:
        self._bits = bits

    def convert(self, input_dict: dict[str, Any], full_layer_name: str = "", **_: Any) -> dict[str, torch.Tensor]:
        [weight] = (value[0] if isinstance(value, list) else value for value in input_dict.values())
        packed, scales = linear.pack(weight, self._bits, memory.forget_file)
        return {full_layer_name: packed, _scales(full_layer_name): scales}


def parameters(model: PreTrainedModel) -> int:
    """How many numbers the model has learnt, however many bytes they are kept in; what is shared counts once."""
    count = int(model.num_parameters())
    seen: set[int] = set()
    for module in model.modules():
        if isinstance(module, PackedLinear | PackedEmbedding) and id(module.weight) not in seen:
            seen.add(id(module.weight))
            count += module.numbers - sum(parameter.numel() for parameter in module.parameters())
    return count


def number_type(model: PreTrainedModel) -> torch.dtype:
    """The narrowest that the model computes in; what its parameters say is about scales and biases."""
    layers = (module for module in model.modules() if isinstance(module, PackedLinear | PackedEmbedding))
    bits = min((layer.bits for layer in layers), default=0)
    packed: torch.dtype = {0: model.dtype, 32: torch.float32, 16: torch.bfloat16}.get(bits, torch.int8)
    return packed


def packed_share(model: PreTrainedModel) -> float:
    """How much of the model the kernels compute."""
    layers = [module for module in model.modules() if isinstance(module, PackedLinear | PackedEmbedding)]
    numbers = {id(layer.weight): layer.numbers for layer in layers}
    return sum(numbers.values()) / max(1, parameters(model))


def is_made(name: str) -> bool:
    """Whether the parameter is made from others, and in no file."""
    return name.endswith("scales")


def _scales(weight_name: str) -> str:
    return f"{weight_name.removesuffix('weight')}scales"
