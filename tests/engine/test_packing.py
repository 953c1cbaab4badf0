"""Packed weights and fused steps: what is replaced, what is left alone, and what is said where it can't be."""

from __future__ import annotations

import functools
import logging
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoConfig, PreTrainedModel

from modelengine_kernels import library, linear
from modelengine_kernels.linear import PackedEmbedding, PackedLinear
from modelengine_runtime import fusing, loader, packing, runner
from small_models import answers, generate, packed, prompts, small_model


def count(model: nn.Module, kind: type[nn.Module]) -> int:
    return sum(isinstance(module, kind) for module in model.modules())


def test_all_of_a_usual_model_is_packed_and_fused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        model, chosen = packed(small_model("qwen2", tie_word_embeddings=True), tmp_path)
    layers = model.config.num_hidden_layers
    assert isinstance(chosen, runner.PackedRunner)
    assert count(model, fusing.FusedGate) == layers
    assert count(model, fusing.FusedNorm) == 2 * layers + 1
    # Query, key and value, and a gate's two.
    assert count(model, fusing.SharedLinear) == 5 * layers
    assert count(model, nn.Linear) == count(model, nn.Embedding) == 0
    assert isinstance(sys.modules[type(model).__module__].apply_rotary_pos_emb, fusing._Rotation)
    assert packing.packed_share(model) > 0.99
    assert f"fused {layers} gates" in caplog.text


@pytest.mark.parametrize("quantization", ["none", "int8", "int4"])
def test_the_number_of_parameters_is_the_models_own_however_they_are_kept(quantization: str, tmp_path: Path) -> None:
    model = small_model("qwen2", tie_word_embeddings=True)
    expected = model.num_parameters()
    read, _ = packed(model, tmp_path, quantization=quantization)
    assert packing.parameters(read) == expected


def test_a_head_that_shares_its_table_shares_the_packed_one(tmp_path: Path) -> None:
    model, _ = packed(small_model("qwen2", tie_word_embeddings=True), tmp_path, quantization="int8")
    table, head = model.get_input_embeddings(), model.get_output_embeddings()
    assert isinstance(table, PackedEmbedding)
    assert isinstance(head, PackedLinear)
    assert head.weight is table.weight
    assert head.scales is table.scales


def test_a_table_of_another_kind_and_the_head_that_shares_it_stay_as_they_are(tmp_path: Path) -> None:
    model = small_model("gemma3_text", tie_word_embeddings=True)
    expected = [generate(model, prompt, 8) for prompt in prompts(2)]
    read, chosen = packed(model, tmp_path)
    assert not isinstance(read.get_input_embeddings(), PackedEmbedding)
    assert type(read.get_output_embeddings()) is nn.Linear
    assert count(read, PackedLinear) > 0
    assert answers(chosen, prompts(2), 8) == expected


def test_narrow_weights_take_the_memory_that_they_should(tmp_path: Path) -> None:
    def whole_tiles() -> PreTrainedModel:
        return small_model("llama", vocab_size=640, num_key_value_heads=4)

    sizes = {}
    for quantization, bits in (("int8", 8), ("int4", 4)):
        model, _ = packed(whole_tiles(), tmp_path / quantization, quantization=quantization)
        layers = [module for module in model.modules() if isinstance(module, PackedLinear | PackedEmbedding)]
        numbers = sum(module.numbers for module in layers)
        sizes[bits] = sum(module.weight.nbytes + module.scales.nbytes for module in layers) * 8 / numbers
    # Scales and padding: one number for each output channel, or for each group of 32.
    assert 8 <= sizes[8] < 9
    assert 4 <= sizes[4] < 5.5


def test_quantization_without_the_kernels_is_an_error_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "load", lambda: None)
    with pytest.raises(
        ValueError, match="quantization 'int8' needs a CPU and the compiled kernels; 'none' does without"
    ):
        packed(small_model("llama"), tmp_path, quantization="int8")


def test_a_model_that_packed_weights_break_runs_without_them_and_a_log_line_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(self: PackedLinear, x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("reads its own weights")

    monkeypatch.setattr(PackedLinear, "forward", broken)
    model = small_model("llama")
    expected = [generate(model, prompt, 8) for prompt in prompts(2)]
    read, chosen = packed(model, tmp_path)
    assert answers(chosen, prompts(2), 8) == expected
    assert count(read, PackedLinear) == 0
    assert "llama runs without packed weights: reads its own weights" in caplog.text
    with pytest.raises(loader.NotPackable, match="reads its own weights"):
        loader.read(tmp_path, AutoConfig.from_pretrained(tmp_path), torch.float32, "cpu", "int8")


def test_a_model_of_experts_keeps_the_width_that_it_has_and_narrower_ones_are_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def experts() -> PreTrainedModel:
        return small_model("qwen3_moe", num_experts=32)

    read, chosen = packed(experts(), tmp_path / "bfloat16", torch.bfloat16)
    assert {parameter.dtype for parameter in read.parameters()} == {torch.bfloat16}
    assert isinstance(chosen, runner.PackedRunner)
    assert "most of its weights are in no linear layer" in caplog.text
    with pytest.raises(loader.NotPackable, match="quantization 'int8': most of its weights are in no linear layer"):
        packed(experts(), tmp_path / "int8", quantization="int8")


def test_what_computes_something_else_under_a_familiar_name_is_not_fused() -> None:
    class OtherNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.eps = nn.Parameter(torch.rand(32)), 1e-6

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.layer_norm(x, (32,), self.weight, None, self.eps)

    class OtherGate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, shape in {"gate_proj": (64, 32), "up_proj": (64, 32), "down_proj": (32, 64)}.items():
                layer = PackedLinear(shape[1], shape[0], 32, bias=False)
                layer.weight.data, layer.scales.data = linear.pack(torch.randn(shape), 32)
                setattr(self, name, layer)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.down_proj(nn.functional.gelu(self.gate_proj(x)) * self.up_proj(x))
            return result

    model = nn.Sequential(OtherNorm(), OtherGate())
    assert fusing.fuse_norms(model) == fusing.fuse_gates(model) == 0


def test_layers_are_joined_only_where_they_get_the_same_input() -> None:
    class Two(nn.Module):
        def __init__(self, shares: bool) -> None:
            super().__init__()
            self.shares = shares
            self.one, self.other = (PackedLinear(32, 48, 32, bias=False) for _ in range(2))
            for layer in (self.one, self.other):
                layer.weight.data, layer.scales.data = linear.pack(torch.randn(48, 32), 32)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            first: torch.Tensor = self.one(x)
            second: torch.Tensor = self.other(x if self.shares else x * 2)
            return first + second

    for shares in (True, False):
        model, x = nn.Sequential(Two(shares)), torch.randn(1, 5, 32)
        inputs = [x, x * 3, x]
        expected = [model(each) for each in inputs]
        assert fusing.join_linears(model, functools.partial(model, x)) == shares
        assert all(torch.equal(model(each), before) for each, before in zip(inputs, expected, strict=True))


def test_a_rotation_that_takes_cosines_for_sines_is_not_taken_for_the_usual_one() -> None:
    def usual(q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> tuple[torch.Tensor, ...]:
        def turned(x: torch.Tensor) -> torch.Tensor:
            a, b = x.chunk(2, -1)
            return x * cos[:, None] + torch.cat([-b, a], -1) * sin[:, None]

        return turned(q), turned(k)

    like = torch.ones(1)
    assert fusing._turns_halves(usual, like)
    assert not fusing._turns_halves(lambda q, k, cos, sin: usual(q, k, sin, cos), like)
