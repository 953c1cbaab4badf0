"""The kernels for a GPU, and a whole model over them: right, and each row the same bits whatever is beside it.

Where there is a GPU they run on it; elsewhere Triton's interpreter runs them (tests/conftest.py) over numpy, which says
whether they are right, but little of their order of arithmetic.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch

from modelengine_kernels import gpu, library
from modelengine_kernels.gpu import attention, elementwise, linear
from modelengine_kernels.gpu.layers import DenseLinear
from modelengine_kernels.gpu.plan import Plan, lay_out
from modelengine_kernels.layout import BLOCK_TOKENS
from modelengine_runtime import gpu_pass, sampler
from modelengine_runtime.gpu_pass import GpuPass
from modelengine_runtime.runner import PackedRunner
from modelengine_runtime.sampler import Asking
from modelengine_runtime.sampling import Sampling
from small_models import answers, generate, packed, prompts, small_model

HAS_GPU = torch.cuda.is_available()
DEVICE = "cuda" if HAS_GPU else "cpu"
# An interpreted program takes milliseconds.
SCALE = 10 if HAS_GPU else 1
# Heads, key heads, head dim, value dim, tokens, window, soft cap.
Shape = tuple[int, int, int, int, int, int, float]
SHAPES: list[Shape] = [
    (4, 4, 64, 64, 15 * SCALE, 0, 0.0),
    (14, 2, 64, 64, 40 * SCALE, 0, 0.0),
    (6, 2, 80, 32, 21 * SCALE, 9 * SCALE, 0.0),
    (8, 1, 32, 16, 23 * SCALE, 0, 30.0),
]
# The interpreter multiplies no bfloat16.
NARROW = torch.bfloat16 if HAS_GPU else torch.float16
TYPES = [torch.float32, NARROW]
NOISE = {torch.float32: 2e-5, NARROW: 3e-2}


# What a mask hides may be anything, and the interpreter computes it all the same.
pytestmark = [
    pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning"),
]


@pytest.fixture(autouse=True)
def interpreted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The CPU in the place of a GPU, where there is none."""
    if not HAS_GPU:
        monkeypatch.setattr(gpu, "DEVICE", "cpu")
        monkeypatch.setattr(linear, "_processors", lambda device: 132)
        monkeypatch.setattr(PackedRunner, "record", lambda runner: None)
        monkeypatch.setenv(library.VARIABLE, "none")
        library.load.cache_clear()
    gpu.works.cache_clear()
    yield
    gpu.works.cache_clear()
    library.load.cache_clear()


def random_numbers(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE, dtype)


def test_the_kernels_can_be_compiled_here() -> None:
    assert gpu.works()


class Attention:
    """One sequence's queries, keys and values, run in pieces through blocks in a random order."""

    def __init__(self, shape: Shape, dtype: torch.dtype, partition: int) -> None:
        self.heads, self.kv_heads, dim, self.value_dim, self.tokens, self.window, self.softcap = shape
        self.query = random_numbers(self.tokens, self.heads, dim, dtype=dtype, seed=1)
        self.key = random_numbers(self.tokens, self.kv_heads, dim, dtype=dtype, seed=2)
        self.value = random_numbers(self.tokens, self.kv_heads, self.value_dim, dtype=dtype, seed=3)
        self.partition = partition

    def run(self, pieces: Sequence[int], padding: int = 0) -> torch.Tensor:
        count = -(-self.tokens // BLOCK_TOKENS)
        table = random.Random(len(pieces)).sample(range(count + 5), count)
        # What nothing was written to must not matter.
        like = self.query.new_full((), float("nan"))
        keys = like.repeat(count + 5, self.kv_heads, self.key.shape[2], BLOCK_TOKENS)
        values = like.repeat(count + 5, self.kv_heads, BLOCK_TOKENS, self.value_dim)
        results, start = [], 0
        for piece in pieces:
            rows = [
                torch.cat([each[start : start + piece], each.new_full((padding, *each.shape[1:]), float("nan"))])
                for each in (self.query, self.key, self.value)
            ]
            plan = self._plan(piece, padding, start, table)
            out = attention.store_and_attend(
                plan, *rows, keys, values, self.key.shape[2] ** -0.5, self.window, self.softcap
            )
            assert not out[piece:].any()
            results.append(out[:piece])
            start += piece
        return torch.cat(results)

    def _plan(self, piece: int, padding: int, start: int, table: list[int]) -> Plan:
        owners, sequences, blocks = lay_out(piece + padding, [(0, piece, start, table)])
        positions = [*range(start, start + piece), *[0] * padding]
        tensors = [torch.tensor(numbers, device=DEVICE) for numbers in (positions, owners, sequences, blocks)]
        partitions = -(-(start + piece) // self.partition)
        return Plan(*tensors, self.partition, partitions)

    def expected(self) -> torch.Tensor:
        query, key, value = (x.double().transpose(0, 1) for x in (self.query, self.key, self.value))
        groups = self.heads // self.kv_heads
        scores = query @ key.repeat_interleave(groups, 0).transpose(1, 2) * query.shape[-1] ** -0.5
        if self.softcap:
            scores = self.softcap * torch.tanh(scores / self.softcap)
        back = torch.arange(self.tokens)[:, None] - torch.arange(self.tokens)[None]
        seen = ((back >= 0) & (back < (self.window or self.tokens))).to(DEVICE)
        weights = scores.masked_fill(~seen, float("-inf")).softmax(-1)
        return (weights @ value.repeat_interleave(groups, 0)).transpose(0, 1)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_attention_is_right_and_the_same_in_any_pieces_and_beside_padding(shape: Shape, dtype: torch.dtype) -> None:
    case = Attention(shape, dtype, partition=64)
    whole = case.run([case.tokens])
    assert torch.allclose(whole.double(), case.expected(), atol=NOISE[dtype])
    assert torch.equal(case.run([1] * case.tokens), whole)
    assert torch.equal(case.run([5, 1, case.tokens - 6], padding=3), whole)


@pytest.mark.parametrize("dtype", TYPES)
def test_a_context_in_one_partition_is_the_same_with_and_without_merging(dtype: torch.dtype) -> None:
    case = Attention((4, 2, 16, 16, 20, 0, 0.0), dtype, partition=64)
    alone = case.run([20])
    case._plan = lambda *where: _with_partitions(Attention._plan(case, *where), 4)  # type: ignore[method-assign]
    assert torch.equal(case.run([20]), alone)


def _with_partitions(plan: Plan, partitions: int) -> Plan:
    return Plan(plan.positions, plan.owners, plan.sequences, plan.blocks, plan.partition, partitions)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("outputs", "inputs"), [(70, 256), (300, 100)])
def test_a_linear_layer_is_right_and_each_row_the_same_in_all_tiles(
    outputs: int, inputs: int, dtype: torch.dtype
) -> None:
    x, weight = random_numbers(130, inputs, dtype=dtype), random_numbers(outputs, inputs, dtype=dtype, seed=2)
    bias = random_numbers(outputs, dtype=dtype, seed=3)
    found = linear.linear(x, weight, bias)
    expected = x.double() @ weight.double().T + bias.double()
    assert float((found.double() - expected).norm() / expected.norm()) < NOISE[dtype]
    for tiles in (linear.FLOAT32,) if dtype == torch.float32 else (*linear.FEW_ROWS, *linear.MANY_ROWS):
        for rows in (slice(0, 130), slice(7, 8), slice(30, 101)):
            again = linear.linear(x[rows], weight, bias, tiles)
            assert torch.equal(again, found[rows]) if HAS_GPU else torch.allclose(again, found[rows], 1e-2, 1e-2), tiles


def test_tiles_are_as_large_as_leaves_no_more_than_half_of_the_gpu_idle() -> None:
    for rows in (1, 8, 16, 17, 64, 65, 512):
        for outputs in (100, 1152, 9728, 151_936):
            tiles = linear.tiles(rows, outputs, torch.bfloat16, 132)
            assert tiles.programs(rows, outputs) >= 66 or tiles in (linear.FEW_ROWS[-1], linear.MANY_ROWS[-1])
            assert rows <= 16 or tiles.rows >= 64


def test_joined_layers_give_what_each_gives() -> None:
    layers = [
        DenseLinear(random_numbers(outputs, 64, seed=outputs), random_numbers(outputs) if outputs == 32 else None)
        for outputs in (48, 32)
    ]
    x = random_numbers(3, 64)
    joined = DenseLinear.joined(layers)
    assert torch.equal(joined(x), torch.cat([layer(x) for layer in layers], dim=-1))


@pytest.mark.parametrize("dtype", TYPES)
def test_small_steps_are_right(dtype: torch.dtype) -> None:
    x, weight = random_numbers(1, 5, 3, 24, dtype=dtype), random_numbers(24, dtype=dtype, seed=2)
    wide = x.double()
    normal = wide / (wide.square().mean(-1, keepdim=True) + 1e-6).sqrt() * (weight.double() + 1)
    assert torch.allclose(elementwise.rms_norm(x, weight, 1e-6, 1.0).double(), normal, atol=2 * NOISE[dtype])
    flat = x.flatten(2)
    gate, up = flat[..., :36], flat[..., 36:]
    gated = torch.nn.functional.silu(gate.double()) * up.double()
    assert torch.allclose(elementwise.silu_times(gate, up).double(), gated, atol=NOISE[dtype])
    q, k = random_numbers(1, 5, 4, 24, dtype=dtype).transpose(1, 2), x.transpose(1, 2)
    cos, sin = random_numbers(1, 5, 24, dtype=dtype, seed=4), random_numbers(1, 5, 24, dtype=dtype, seed=5)
    for given, found in zip((q, k), elementwise.rotate_both(q, k, cos, sin), strict=True):
        a, b = given.double().chunk(2, -1)
        turned = given.double() * cos.double() + torch.cat([-b, a], -1) * sin.double()
        assert torch.allclose(found.double(), turned, atol=2 * NOISE[dtype])


@pytest.mark.parametrize("architecture", ["qwen2", "gemma2"] if not HAS_GPU else ["qwen2", "qwen3", "llama", "gemma2"])
def test_a_model_on_a_gpu_answers_as_transformers_does(
    architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So that short answers come to a second one.
    monkeypatch.setattr(gpu_pass, "PARTITION", 32)
    model = small_model(architecture, num_hidden_layers=2, max_position_embeddings=64)
    expected = [generate(model, prompt, 4) for prompt in prompts(3)]
    loaded, runner = packed(model, tmp_path, device=DEVICE)
    assert isinstance(runner, PackedRunner)
    assert isinstance(runner.recorded, GpuPass)
    assert any(isinstance(module, DenseLinear) for module in loaded.modules())
    assert answers(runner, prompts(3), 4) == expected


def test_on_a_gpu_tokens_are_drawn_as_on_a_cpu() -> None:
    scores = torch.randn((4, 50), generator=torch.Generator().manual_seed(7)) * 3
    options = [Sampling(), Sampling(temperature=0.8, seed=3), Sampling(temperature=1.5, top_p=0.8, seed=4), Sampling()]
    asking = [Asking(sampling, (), ()) for sampling in options]
    assert sampler._sample_there(scores.to(DEVICE), asking) == sampler.sample(scores.clone(), asking)
    poisoned = scores.clone()
    poisoned[1, 5] = float("nan")
    with pytest.raises(FloatingPointError):
        sampler.sample(poisoned.to(DEVICE), asking)
