"""Weights packed for the kernels in 32, 16, 8 or 4 bits, and linear layers and embeddings over them.

A row's result is the same whatever shares its batch. Without the compiled kernels nothing here works: `library.load`
tells.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Self

import torch
from torch import nn

from modelengine_kernels import tape
from modelengine_kernels.library import TYPES, load, threads
from modelengine_kernels.tape import Call, Operation

# As in layout.h.
TILE = 64
GROUP = 32
# Whole tiles, and enough for all threads.
ROWS_AT_ONCE = 64 * TILE
# Beyond, a sum of products of bytes may leave 32 bits.
MAX_INPUTS = 65_536


def packed_sizes(outputs: int, inputs: int, bits: int) -> tuple[int, int]:
    """Bytes of the packed weights, and how many scales they have."""
    padded_outputs, padded_inputs = -(-outputs // TILE) * TILE, -(-inputs // GROUP) * GROUP
    scales_per_output = {4: padded_inputs // GROUP, 8: 1}.get(bits, 0)
    return padded_outputs * padded_inputs * bits // 8, padded_outputs * scales_per_output


def pack(
    weight: torch.Tensor, bits: int, packed_rows: Callable[[torch.Tensor], None] = lambda rows: None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Packed weights (uint8) and scales (float32) of `[outputs, inputs]` in any floating type.

    `packed_rows` is given some rows of the weight after the others, as soon as they are of no use any more.
    """
    outputs, inputs = weight.shape
    size, scale_count = packed_sizes(outputs, inputs, bits)
    packed, scales = torch.empty(size, dtype=torch.uint8), torch.empty(scale_count)
    library = load()
    assert library is not None
    for first in range(0, outputs, ROWS_AT_ONCE):
        rows = weight.detach()[first : first + ROWS_AT_ONCE]
        dense = rows.contiguous() if rows.dtype in TYPES else rows.float().contiguous()
        before, scales_before = packed_sizes(first, inputs, bits)
        library.me_pack(
            dense.data_ptr(),
            inputs,
            len(dense),
            bits,
            TYPES[dense.dtype],
            packed.data_ptr() + before,
            scales.data_ptr() + scales_before * scales.element_size(),
            threads(),
        )
        packed_rows(rows)
    return packed, scales


class _Packed(nn.Module):
    """Its tensors stay in the types that the kernels read, whatever the rest of the model is cast to. `numbers` is how
    many weights and biases there are, without what fills tiles up."""

    numbers: int

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Self:
        return self


class PackedLinear(_Packed):
    """`weight` and `scales` are what `pack` gives; `bias` is float32 or None, as is what goes in and comes out."""

    weight: torch.Tensor
    scales: torch.Tensor
    bias: torch.Tensor | None

    def __init__(self, in_features: int, out_features: int, bits: int, bias: bool) -> None:
        super().__init__()
        self.in_features, self.out_features, self.bits = in_features, out_features, bits
        self.numbers = in_features * out_features + (out_features if bias else 0)
        size, scale_count = packed_sizes(out_features, in_features, bits)
        self.register_parameter("weight", frozen(torch.empty(size, dtype=torch.uint8)))
        self.register_parameter("scales", frozen(torch.empty(scale_count)))
        self.register_parameter("bias", frozen(torch.empty(out_features)) if bias else None)

    @property
    def padded_features(self) -> int:
        """Outputs up to the end of the last tile."""
        return -(-self.out_features // TILE) * TILE

    @classmethod
    def joined(cls, layers: Sequence[PackedLinear]) -> PackedLinear:
        """One layer whose outputs are those of the given ones, each up to the end of its last tile."""
        first = layers[0]
        has_bias = any(layer.bias is not None for layer in layers)
        with torch.device("meta"):
            joined = cls(first.in_features, sum(layer.padded_features for layer in layers), first.bits, has_bias)
        joined.numbers = sum(layer.numbers for layer in layers)
        joined.weight = frozen(torch.cat([layer.weight for layer in layers]))
        joined.scales = frozen(torch.cat([layer.scales for layer in layers]))
        if has_bias:
            joined.bias = frozen(torch.zeros(joined.out_features))
            start = 0
            for layer in layers:
                if layer.bias is not None:
                    joined.bias[start : start + layer.out_features] = layer.bias
                start += layer.padded_features
        return joined

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Raises TypeError for activations that are not float32."""
        if x.dtype != torch.float32:
            raise TypeError(f"packed weights and activations in {x.dtype}")
        library = load()
        assert library is not None
        dense = x.contiguous()
        result = torch.empty((*x.shape[:-1], self.out_features))
        if tape.leaves_out(
            lambda: Call(
                Operation.LINEAR,
                (dense.view(-1, self.in_features),),
                result.view(-1, self.out_features),
                (self.weight, self.scales, self.bias),
                (self.in_features, self.out_features, self.bits),
            )
        ):
            return result
        library.me_linear(
            dense.data_ptr(),
            result.data_ptr(),
            self.weight.data_ptr(),
            self.scales.data_ptr(),
            None if self.bias is None else self.bias.data_ptr(),
            dense.numel() // self.in_features,
            self.in_features,
            self.out_features,
            self.bits,
            threads(),
        )
        return result


class PackedEmbedding(_Packed):
    """Looks rows up in weights that a head may share."""

    weight: torch.Tensor
    scales: torch.Tensor

    def __init__(self, num_embeddings: int, embedding_dim: int, bits: int) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim, self.bits = num_embeddings, embedding_dim, bits
        self.numbers = num_embeddings * embedding_dim
        size, scale_count = packed_sizes(num_embeddings, embedding_dim, bits)
        self.register_parameter("weight", frozen(torch.empty(size, dtype=torch.uint8)))
        self.register_parameter("scales", frozen(torch.empty(scale_count)))

    def forward(self, indices: torch.Tensor) -> torch.Tensor:
        """Raises IndexError for an index outside the table."""
        library = load()
        assert library is not None
        flat = indices.to(torch.int64).contiguous()
        if flat.numel() and not 0 <= int(flat.min()) <= int(flat.max()) < self.num_embeddings:
            raise IndexError(f"a token is not in the table of {self.num_embeddings}")
        result = torch.empty((*indices.shape, self.embedding_dim))
        if tape.leaves_out(
            lambda: Call(
                Operation.EMBED,
                (flat.view(-1, 1),),
                result.view(-1, self.embedding_dim),
                (self.weight, self.scales),
                (self.embedding_dim, self.bits),
            )
        ):
            return result
        library.me_unpack_rows(
            self.weight.data_ptr(),
            self.scales.data_ptr(),
            self.embedding_dim,
            self.bits,
            flat.data_ptr(),
            flat.numel(),
            result.data_ptr(),
        )
        return result


def frozen(tensor: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(tensor, requires_grad=False)
