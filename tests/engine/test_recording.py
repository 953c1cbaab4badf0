"""A recorded pass gives the model's own scores, and what can't be recorded goes on by the model's own code."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from modelengine_kernels.program import Buffer, Columns, Instruction, Program, places
from modelengine_kernels.tape import Operation
from modelengine_runtime import recording
from modelengine_runtime.kv_cache import Span
from modelengine_runtime.runner import PackedRunner
from small_models import VOCABULARY, packed, small_model

RECORDABLE = ["qwen2", "qwen3", "llama", "mistral", "olmo2"]
BLOCKS = 200


def both(architecture: str, folder: Path, quantization: str = "none", **more: Any) -> tuple[PackedRunner, PackedRunner]:
    """A runner of the model's recorded pass, and one of its own code."""
    model, chosen = packed(small_model(architecture, **more), folder, quantization=quantization)
    assert chosen.recorded is not None
    return PackedRunner(model, BLOCKS, chosen.recorded), PackedRunner(model, BLOCKS)


def scores(runner: PackedRunner, steps: Sequence[tuple[list[int], list[int], list[Span], list[int]]]) -> torch.Tensor:
    with torch.inference_mode():
        return torch.cat([runner.forward(*step) for step in steps])


@pytest.mark.parametrize("quantization", ["none", "int8", "int4"])
@pytest.mark.parametrize("architecture", RECORDABLE)
def test_a_recorded_pass_gives_the_bits_that_the_models_own_code_gives(
    architecture: str, quantization: str, tmp_path: Path
) -> None:
    chance = random.Random(4)
    tables = [chance.sample(range(BLOCKS), 60)[20 * i : 20 * i + 20] for i in range(3)]
    lengths, steps = [0, 0, 0], []
    for _ in range(12):
        spans, tokens, positions, rows = [], list[int](), list[int](), list[int]()
        for i, table in enumerate(tables):
            count = chance.choice([0, 1, 1, 7, 33])
            if count:
                spans.append(Span(len(tokens), len(tokens) + count, lengths[i], table))
                tokens += [chance.randrange(VOCABULARY) for _ in range(count)]
                positions += range(lengths[i], lengths[i] + count)
                lengths[i] += count
                rows += [len(tokens) - 1] * chance.randrange(2)
        if tokens:
            steps.append((tokens, positions, spans, rows))
    recorded, own = both(architecture, tmp_path, quantization)
    assert torch.equal(scores(recorded, steps), scores(own, steps))


def test_positions_beyond_those_that_were_seen_are_right(tmp_path: Path) -> None:
    recorded, own = both("llama", tmp_path, max_position_embeddings=8192)
    for start in (10, recording.TABLE_ROWS - 3, 3 * recording.TABLE_ROWS, 7000):
        step = ([1, 2, 3, 4, 5], [*range(start, start + 5)], [Span(0, 5, 0, [0])], [4])
        assert torch.equal(scores(recorded, [step]), scores(own, [step]))


def test_a_token_that_the_model_does_not_know_is_refused(tmp_path: Path) -> None:
    recorded, _ = both("llama", tmp_path)
    for token in (-1, VOCABULARY):
        with pytest.raises(IndexError, match=f"table of {VOCABULARY}"):
            scores(recorded, [([token], [0], [Span(0, 1, 0, [0])], [0])])


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda x: x.sigmoid(), "it uses aten.sigmoid"),
        (lambda x: x.add_(1), "it uses aten.add_"),
        (lambda x: torch.cat([x, x])[:1], "it uses aten.cat"),
        (lambda x: x + 1.0, "it uses aten.add"),
    ],
)
def test_what_a_program_can_not_do_is_left_to_the_models_own_code_and_a_log_line_says_so(
    spoil: Any, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from transformers.models.llama import modeling_llama

    own = modeling_llama.LlamaDecoderLayer.forward
    monkeypatch.setattr(
        modeling_llama.LlamaDecoderLayer, "forward", lambda self, x, *args, **more: spoil(own(self, x, *args, **more))
    )
    with caplog.at_level(logging.INFO):
        _, chosen = packed(small_model("llama"), tmp_path)
    assert isinstance(chosen, PackedRunner)
    assert chosen.recorded is None
    assert f"LlamaForCausalLM runs by its own code: {reason}" in caplog.text


def test_buffers_that_are_needed_at_one_time_do_not_overlap() -> None:
    chance = random.Random(1)
    for _ in range(200):
        buffers = [Buffer(chance.randint(1, 100)) for _ in range(12)]
        instructions = [
            Instruction(
                Operation.ADD, tuple(Columns(chance.randrange(i)) for _ in range(2)) if i else (), i, sizes=(1,)
            )
            for i in range(12)
        ]
        starts, columns = places(instructions, buffers)
        last_use = [
            max([i, *(t for t, made in enumerate(instructions) if any(c.buffer == i for c in made.inputs))])
            for i in range(12)
        ]
        for i in range(12):
            assert starts[i] + buffers[i].columns <= columns
            for j in range(i):
                # Also in the step that reads one and makes the other.
                if last_use[j] >= i:
                    assert starts[i] >= starts[j] + buffers[j].columns or starts[j] >= starts[i] + buffers[i].columns


def test_a_program_is_freed() -> None:
    freed = []
    program = Program([Instruction(Operation.ADD, (Columns(0), Columns(0)), 0, sizes=(16,))], [Buffer(16)])
    free = program._free
    program._free = lambda handle: freed.append(free(handle))
    del program
    assert len(freed) == 1
