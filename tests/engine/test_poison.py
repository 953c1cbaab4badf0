"""A request that can't be answered fails alone: who runs beside it, or after it in its blocks, gets what he gets alone.

The poison is real: a token whose row in the model's table is not a number, so keys, values and scores of its text are
none either. What raises in the sampler or in the text is put there.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from modelengine import errors
from modelengine_runtime import runner as runners
from modelengine_runtime import sampler
from modelengine_runtime.loop import StepLoop
from modelengine_runtime.runner import PackedRunner, SequentialRunner
from modelengine_runtime.sampling import Sampling
from modelengine_runtime.scheduler import Limits, Scheduler
from modelengine_runtime.sequence import ChatSequence, End, Event, Failure, Status
from modelengine_runtime.text import AnswerText
from small_models import VOCABULARY, packed, small_model

# In no prompt and no self-check; and so unlikely that nobody answers with it.
POISON = VOCABULARY - 1
COMPANY = 8
LENGTH = 30
LONGEST = 60
KV_BLOCKS = COMPANY * -(-(LONGEST + LENGTH) // 16)
STEP_TOKENS = 40
BAD_SEED = 666


class Request:
    """A sequence and what was delivered to it."""

    def __init__(self, prompt: Sequence[int], sampling: Sampling, text: Callable[[Sequence[int]], str] = str) -> None:
        self.events: list[Event] = []
        self.blocks: set[int] = set()
        self.sequence = ChatSequence(
            id=0,
            prompt=prompt,
            limit=LENGTH,
            sampling=sampling,
            stop_tokens=frozenset(),
            text=AnswerText(text),
            deliver=self.events.append,
        )

    @property
    def is_over(self) -> bool:
        return self.sequence.status not in (Status.WAITING, Status.RUNNING)

    @property
    def answer(self) -> list[int]:
        assert isinstance(self.events[-1], End), self.events[-1]
        return self.sequence.output

    @property
    def failure(self) -> errors.ModelEngineError:
        assert isinstance(self.events[-1], Failure), self.events[-1]
        return self.events[-1].error


def healthy() -> list[Request]:
    """Seven, greedy and sampled, with prompts of one chunk and of several."""
    chance = random.Random(5)
    lengths = [3, 17, 32, 33, 47, LONGEST, LONGEST]
    return [
        Request(
            [chance.randrange(POISON) for _ in range(length)],
            Sampling(temperature=(0.0, 1.0)[i % 2], top_k=20, repetition_penalty=(1.0, 1.2)[i % 3 == 0], seed=i),
        )
        for i, length in enumerate(lengths)
    ]


class Engine:
    """The real loop over a runner, a turn at a time."""

    def __init__(self, runner: runners.Runner) -> None:
        runner.reserve(KV_BLOCKS)
        has_prefix_cache = isinstance(runner, PackedRunner)
        self.scheduler = Scheduler(Limits(COMPANY, COMPANY, STEP_TOKENS, KV_BLOCKS, has_prefix_cache))
        self.loop = StepLoop(self.scheduler, runner)
        self.count = 0

    def submit(self, *requests: Request) -> None:
        for request in requests:
            request.sequence.id, self.count = self.count, self.count + 1
            self.loop.submit(request.sequence)
        self.loop.turn(wait=False)

    def run(self, requests: Sequence[Request]) -> None:
        for _ in range(20 * LENGTH):
            for request in requests:
                request.blocks.update(request.sequence.blocks)
            if all(request.is_over for request in requests):
                break
            self.loop.turn(wait=False)
        assert all(request.is_over for request in requests)
        assert (self.loop.running, self.loop.waiting, self.scheduler.load.blocks_used) == (0, 0, 0)


def answers_alone(runner: runners.Runner) -> list[list[int]]:
    requests = healthy()
    for request in requests:
        engine = Engine(runner)
        engine.submit(request)
        engine.run([request])
    assert len({tuple(request.answer) for request in requests}) == len(requests)
    return [request.answer for request in requests]


def poisoned_model() -> PreTrainedModel:
    model = small_model("qwen3")
    with torch.no_grad():
        model.get_input_embeddings().weight[POISON] = math.nan
        # Never the likeliest, but not impossible: an infinite score would be poison for all.
        model.get_output_embeddings().weight[POISON] = 0
    return model


def poisoned_int8(folder: Path) -> runners.Runner:
    """Here it is the row's scale that is no number: what 8 bits hold always is one."""
    model, chosen = packed(small_model("qwen3"), folder, quantization="int8")
    model.get_input_embeddings().scales.data.view(-1)[POISON] = math.nan
    own: runners.Runner = chosen
    return own


RUNNERS = {
    "kernels": lambda folder: packed(poisoned_model(), folder)[1],
    "kernels, bfloat16": lambda folder: packed(poisoned_model(), folder, torch.bfloat16)[1],
    "kernels, int8": lambda folder: poisoned_int8(folder),
    "torch": lambda folder: runners.choose(poisoned_model()),
    "one after the other": lambda folder: SequentialRunner(poisoned_model()),
}


@pytest.fixture(scope="module", params=RUNNERS)
def runner(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> runners.Runner:
    chosen: runners.Runner = RUNNERS[request.param](tmp_path_factory.mktemp("model"))
    return chosen


@pytest.fixture(scope="module")
def alone(runner: runners.Runner) -> list[list[int]]:
    return answers_alone(runner)


def beside_seven(runner: runners.Runner, bad: Request, alone: list[list[int]]) -> Engine:
    """Seven begin, the bad one comes, all come to their end, and the seven have what they have alone."""
    engine, good = Engine(runner), healthy()
    engine.submit(*good[:4])
    for _ in range(5):
        engine.loop.turn(wait=False)
    engine.submit(bad, *good[4:])
    engine.run([bad, *good])
    assert [request.answer for request in good] == alone
    assert (engine.loop.counters.finished, engine.loop.counters.failed) == (len(good), 1)
    return engine


@pytest.mark.parametrize("place", [0, 20, 49])
def test_a_request_whose_scores_are_no_numbers_fails_alone(
    runner: runners.Runner, alone: list[list[int]], place: int
) -> None:
    bad = Request([*range(place), POISON, *range(49 - place)], Sampling())
    engine = beside_seven(runner, bad, alone)
    assert isinstance(bad.failure, errors.RequestFailed)
    assert "not finite numbers" in bad.failure.message
    # Blocks that hold what is no number serve the next ones as if nothing had been.
    after = healthy()
    engine.submit(*after)
    engine.run(after)
    assert [request.answer for request in after] == alone
    if isinstance(runner, PackedRunner):
        assert bad.blocks & {block for request in after for block in request.blocks}


def test_a_request_that_the_sampler_breaks_on_fails_alone(
    runner: runners.Runner, alone: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = sampler.sample

    def sample(scores: torch.Tensor, asking: Sequence[sampler.Asking]) -> list[int]:
        if any(each.sampling.seed == BAD_SEED and len(each.output) == 7 for each in asking):
            raise ArithmeticError("no token is left")
        return own(scores, asking)

    monkeypatch.setattr(sampler, "sample", sample)
    bad = Request([1, 2, 3], Sampling(temperature=1.0, seed=BAD_SEED))
    beside_seven(runner, bad, alone)
    assert isinstance(bad.failure, errors.RequestFailed)
    assert "no token is left" in bad.failure.message
    assert len(bad.sequence.output) == 7


def test_a_request_whose_tokens_make_no_text_fails_alone(runner: runners.Runner, alone: list[list[int]]) -> None:
    def decode(tokens: Sequence[int]) -> str:
        if len(tokens) > 1:
            raise UnicodeError("no such text")
        return "x" * len(tokens)

    bad = Request([1, 2, 3], Sampling(), decode)
    beside_seven(runner, bad, alone)
    assert isinstance(bad.failure, errors.RequestFailed)
    assert "no such text" in bad.failure.message
