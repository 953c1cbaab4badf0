"""The compiled kernels: right within rounding, and a row's bits the same whatever is beside it, on every variant."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
import torch
from torch.nn import functional

from modelengine_kernels import attention, elementwise, library, linear
from modelengine_kernels.layout import BLOCK_TOKENS
from modelengine_kernels.linear import PackedEmbedding, PackedLinear

BUILT = [name for name, needs in library.NEEDS.items() if needs <= library.processor_flags()]
CACHES = [(torch.float32, torch.float32), (torch.float32, torch.bfloat16), (torch.bfloat16, torch.bfloat16)]
# Heads, key heads, head dim, value dim, tokens, window, soft cap.
Shape = tuple[int, int, int, int, int, int, float]
SHAPES: list[Shape] = [
    (4, 4, 64, 64, 150, 0, 0.0),
    (4, 2, 64, 64, 700, 0, 0.0),
    (8, 1, 128, 128, 600, 100, 0.0),
    (6, 3, 80, 32, 530, 0, 30.0),
    (14, 2, 64, 64, 1100, 513, 0.0),
    (2, 2, 192, 128, 77, 0, 0.0),
    (1, 1, 16, 96, 33, 5, 0.0),
]


@pytest.fixture(params=BUILT)
def variant(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv(library.VARIABLE, request.param)
    library.load.cache_clear()
    assert library.load() is not None, "not compiled: is there a g++?"
    yield request.param
    library.load.cache_clear()


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = library.threads()
    library.set_threads(request.param)
    yield request.param
    library.set_threads(before)


def test_the_kernels_are_there_for_this_processor() -> None:
    assert BUILT
    assert library.load() is not None


class Attention:
    """One sequence's queries, keys and values, run in pieces through blocks in a random order."""

    def __init__(self, shape: Shape, dtype: torch.dtype, cache: torch.dtype):
        self.heads, self.kv_heads, dim, self.value_dim, self.tokens, self.window, self.softcap = shape
        torch.manual_seed(1)
        self.query = torch.randn(self.tokens, self.heads, dim).to(dtype)
        self.key = torch.randn(self.tokens, self.kv_heads, dim).to(dtype)
        self.value = torch.randn(self.tokens, self.kv_heads, self.value_dim).to(dtype)
        self.cache_type = cache

    def run(self, pieces: list[int], seed: int = 0) -> torch.Tensor:
        count = -(-self.tokens // BLOCK_TOKENS)
        table = random.Random(seed).sample(range(count + 9), count)
        nothing = float("nan")
        dim = self.key.shape[2]
        keys = torch.full((count + 9, self.kv_heads, dim, BLOCK_TOKENS), nothing).to(self.cache_type)
        values = torch.full((count + 9, self.kv_heads, BLOCK_TOKENS, self.value_dim), nothing).to(self.cache_type)
        results, start = [], 0
        for piece in pieces:
            here = slice(start, start + piece)
            plan = attention.Plan([(0, piece, start, table)])
            rows = (self.query[here], self.key[here], self.value[here])
            results.append(
                attention.store_and_attend(plan, *rows, 0, keys, values, dim**-0.5, self.window, self.softcap)
            )
            start += piece
        return torch.cat(results)

    def expected(self) -> torch.Tensor:
        query, key, value = (x.double().transpose(0, 1) for x in (self.query, *self._as_cached()))
        groups = self.heads // self.kv_heads
        scores = query @ key.repeat_interleave(groups, 0).transpose(1, 2) * query.shape[-1] ** -0.5
        if self.softcap:
            scores = self.softcap * torch.tanh(scores / self.softcap)
        back = torch.arange(self.tokens)[:, None] - torch.arange(self.tokens)[None]
        seen = (back >= 0) & (back < (self.window or self.tokens))
        weights = scores.masked_fill(~seen, float("-inf")).softmax(-1)
        return (weights @ value.repeat_interleave(groups, 0)).transpose(0, 1)

    def _as_cached(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.key.to(self.cache_type), self.value.to(self.cache_type)


@pytest.mark.parametrize(("dtype", "cache"), CACHES)
@pytest.mark.parametrize("shape", SHAPES)
def test_attention_is_right_and_the_same_in_one_piece_token_by_token_and_in_any_pieces(
    shape: Shape,
    dtype: torch.dtype,
    cache: torch.dtype,
    variant: str,
    threads: int,
) -> None:
    case = Attention(shape, dtype, cache)
    whole = case.run([case.tokens])
    assert torch.allclose(whole.double(), case.expected(), atol=2e-5 if dtype == torch.float32 else 2e-2)
    assert torch.equal(case.run([1] * case.tokens, seed=2), whole)
    chance, pieces, left = random.Random(3), list[int](), case.tokens
    while left:
        pieces.append(min(left, chance.randint(1, 90)))
        left -= pieces[-1]
    assert torch.equal(case.run(pieces, seed=4), whole)


def test_sequences_of_one_call_do_not_touch_each_other(variant: str) -> None:
    case = Attention((4, 2, 32, 32, 60, 0, 0.0), torch.float32, torch.float32)
    alone = case.run([case.tokens])
    keys, values = torch.zeros(12, 2, 32, BLOCK_TOKENS), torch.zeros(12, 2, BLOCK_TOKENS, 32)
    twice = [torch.cat([x, x]) for x in (case.query, case.key, case.value)]
    plan = attention.Plan([(0, 60, 0, [0, 1, 2, 3]), (60, 60, 0, [11, 10, 9, 8])])
    out = attention.store_and_attend(plan, *twice, 0, keys, values, 32**-0.5)
    assert torch.equal(out[:60], alone)
    assert torch.equal(out[60:], alone)


LAYERS = [(200, 100), (256, 64), (1000, 1409), (64, 32), (1, 1)]
BITS = (32, 16, 8, 4)


def layer(outputs: int, inputs: int, bits: int, bias: bool = True) -> PackedLinear:
    torch.manual_seed(2)
    made = PackedLinear(inputs, outputs, bits, bias)
    made.weight.data, made.scales.data = linear.pack(torch.randn(outputs, inputs) * 0.1, bits)
    if made.bias is not None:
        made.bias.data = torch.randn(outputs)
    return made


def dense(packed: PackedLinear) -> torch.Tensor:
    """The weights as the kernels understand them."""
    table = PackedEmbedding(packed.out_features, packed.in_features, packed.bits)
    table.weight.data, table.scales.data = packed.weight, packed.scales
    return table(torch.arange(packed.out_features))


def as_quantized(x: torch.Tensor) -> torch.Tensor:
    scale = x.abs().amax(dim=-1, keepdim=True) / 127
    return (x / scale).round() * scale


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize(("outputs", "inputs"), LAYERS)
def test_a_linear_layer_is_right_and_each_row_the_same_alone_and_among_others(
    outputs: int, inputs: int, bits: int, variant: str, threads: int
) -> None:
    packed = layer(outputs, inputs, bits)
    x = torch.randn(23, inputs)
    assert packed.bias is not None
    given = {32: x, 16: x.to(torch.bfloat16)}.get(bits, as_quantized(x))
    expected = given.double() @ dense(packed).double().T + packed.bias.double()
    found = packed(x)
    assert torch.allclose(found.double(), expected, rtol=1e-2, atol=1e-4)
    assert torch.equal(torch.cat([packed(row[None]) for row in x]), found)
    assert torch.equal(packed(x[5:9]), found[5:9])


@pytest.mark.parametrize(("bits", "error"), [(32, 0.0), (16, 0.004), (8, 0.01), (4, 0.12)])
def test_packed_weights_are_near_what_they_were(bits: int, error: float) -> None:
    torch.manual_seed(2)
    weights = torch.randn(130, 200) * 0.1
    packed = layer(130, 200, bits, bias=False)
    packed.weight.data, packed.scales.data = linear.pack(weights, bits)
    assert float((dense(packed) - weights).norm() / weights.norm()) <= error


def test_all_variants_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for name in BUILT:
        monkeypatch.setenv(library.VARIABLE, name)
        library.load.cache_clear()
        torch.manual_seed(5)
        layers = [layer(200, 300, bits)(torch.randn(7, 300)) for bits in BITS]
        results.append([*layers, Attention(SHAPES[3], torch.float32, torch.bfloat16).run([530])])
    library.load.cache_clear()
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_row_that_is_no_numbers_gives_none_and_harms_no_other(bits: int, bad: float) -> None:
    packed = layer(100, 64, bits)
    x = torch.randn(9, 64)
    clean = packed(x)
    x[4, 7] = bad
    spoilt = packed(x)
    assert not torch.isfinite(spoilt[4]).any()
    others = [0, 1, 2, 3, 5, 6, 7, 8]
    assert torch.equal(spoilt[others], clean[others])


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_weight_that_is_no_number_is_not_taken_for_one(bits: int, bad: float) -> None:
    weights = torch.randn(70, 64)
    weights[3, 40] = bad
    packed = layer(70, 64, bits)
    packed.weight.data, packed.scales.data = linear.pack(weights, bits)
    found = packed(torch.randn(2, 64))
    assert not torch.isfinite(found[:, 3]).any()
    assert torch.isfinite(found[:, [*range(3), *range(4, 70)]]).all()


@pytest.mark.parametrize("given", [torch.bfloat16, torch.float16])
def test_activations_of_a_wrong_type_are_refused(given: torch.dtype) -> None:
    with pytest.raises(TypeError, match=f"packed weights and activations in {given}"):
        layer(10, 32, 8)(torch.randn(1, 32).to(given))


def test_joined_layers_give_what_each_gives() -> None:
    parts = [layer(70, 64, 8), layer(64, 64, 8, bias=False), layer(3, 64, 8)]
    joined, x = PackedLinear.joined(parts), torch.randn(5, 64)
    whole, start = joined(x), 0
    for part in parts:
        assert torch.equal(whole[:, start : start + part.out_features], part(x))
        start += part.padded_features


def test_an_embedding_gives_its_rows_and_refuses_others() -> None:
    table = PackedEmbedding(70, 40, 32)
    weights = torch.randn(70, 40)
    table.weight.data, table.scales.data = linear.pack(weights, 32)
    assert torch.equal(table(torch.tensor([[0, 69], [3, 3]])), weights[torch.tensor([[0, 69], [3, 3]])])
    for outside in (-1, 70):
        with pytest.raises(IndexError, match="table of 70"):
            table(torch.tensor([[outside]]))


def test_packed_layers_keep_their_types_when_the_model_is_cast() -> None:
    packed = layer(10, 32, 8).to(torch.bfloat16)
    assert packed.bias is not None
    assert (packed.bias.dtype, packed.scales.dtype, packed.weight.dtype) == (torch.float32, torch.float32, torch.uint8)


@pytest.mark.parametrize("dim", [64, 100, 3])
@pytest.mark.parametrize("rows", [1, 7, 900])
def test_small_steps_are_those_of_torch_and_rows_do_not_depend_on_others(
    dim: int, rows: int, variant: str, threads: int
) -> None:
    torch.manual_seed(6)
    x, weight, gate = torch.randn(1, rows, dim), torch.randn(dim), torch.randn(1, rows, 2 * dim)[..., :dim]
    normed = elementwise.rms_norm(x, weight, 1e-6, 1.0)
    assert torch.allclose(normed, functional.rms_norm(x, (dim,), weight + 1, 1e-6), atol=1e-5)
    gated = elementwise.silu_times(gate, x)
    assert torch.allclose(gated, functional.silu(gate) * x, atol=1e-5)
    last = slice(rows - 1, rows)
    assert torch.equal(elementwise.rms_norm(x[:, last], weight, 1e-6, 1.0), normed[:, last])
    assert torch.equal(elementwise.silu_times(gate[:, last], x[:, last]), gated[:, last])


def test_positions_are_turned_as_transformers_does() -> None:
    from transformers.models.llama import modeling_llama

    torch.manual_seed(7)
    x = torch.randn(1, 5, 4, 32).transpose(1, 2)
    cos, sin = torch.randn(1, 5, 32), torch.randn(1, 5, 32)
    expected, _ = modeling_llama.apply_rotary_pos_emb(x, x, cos, sin)
    assert torch.allclose(elementwise.rotate(x, cos, sin), expected, atol=1e-6)


@pytest.mark.parametrize("length", [16, 5])
def test_rounding_to_bfloat16_is_that_of_torch(length: int, variant: str) -> None:
    """Seen through a layer that only hands its input on; sixteen at a time, and one by one."""
    values = torch.tensor([1.00390625, 1.01171875, -1.00390625, 3.0e38, 65504.0, *torch.randn(500).tolist()])
    same = PackedLinear(length, length, 16, bias=False)
    same.weight.data, same.scales.data = linear.pack(torch.eye(length), 16)
    rows = values[: len(values) // length * length].view(-1, length)
    assert torch.equal(same(rows), rows.to(torch.bfloat16).float())
