"""What is answered depends on the request alone: not on its company, the cache, preemption, or being resumed."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch

from modelengine_kernels import library
from modelengine_runtime.loop import Runner, StepLoop
from modelengine_runtime.runner import PackedRunner
from modelengine_runtime.sampling import Sampling
from modelengine_runtime.scheduler import Limits, Scheduler
from modelengine_runtime.sequence import ChatSequence
from modelengine_runtime.text import AnswerText
from small_models import VOCABULARY, packed, raise_failure, run, small_model

LONGEST_PROMPT, LONGEST_ANSWER = 90, 50
REQUESTS = 1000 if os.environ.get("MODELENGINE_TEST_LONG") else 24
BLOCKS_FOR_ONE = -(-(LONGEST_PROMPT + LONGEST_ANSWER) // 16)
ROOMY = BLOCKS_FOR_ONE * REQUESTS


@dataclass(frozen=True)
class Request:
    prompt: list[int]
    limit: int
    sampling: Sampling


def draw(seed: int) -> list[Request]:
    """Short and long, greedy and seeded, with penalties and cuts; many begin alike, as chats with one system prompt."""
    chance = random.Random(seed)
    beginning = [chance.randrange(VOCABULARY) for _ in range(40)]
    return [
        Request(
            [
                *beginning[: chance.choice([0, 16, 33, 40])],
                *(chance.randrange(VOCABULARY) for _ in range(chance.randint(1, LONGEST_PROMPT - 40))),
            ],
            chance.randint(1, LONGEST_ANSWER),
            Sampling(
                temperature=chance.choice([0.0, 0.0, 0.7, 1.5]),
                top_k=chance.choice([0, 20]),
                top_p=chance.choice([1.0, 0.9]),
                repetition_penalty=chance.choice([1.0, 1.3]),
                frequency_penalty=chance.choice([0.0, 0.5]),
                seed=chance.randrange(2**32),
            ),
        )
        for _ in range(REQUESTS)
    ]


class Chat:
    """The engine without its thread: a scheduler over one runner, whose cache lives on from call to call."""

    def __init__(self, runner: Runner, kv_blocks: int, draft_rows: int = 0, has_prefix_cache: bool = True) -> None:
        runner.reserve(kv_blocks)
        self.scheduler = Scheduler(Limits(8, REQUESTS, 48, kv_blocks, has_prefix_cache, draft_rows))
        self.loop = StepLoop(self.scheduler, runner)

    def answer(self, requests: Sequence[Request], resumed: Sequence[Sequence[int]] = ()) -> list[list[int]]:
        sequences = [
            ChatSequence(
                i, r.prompt, r.limit, r.sampling, frozenset(), AnswerText(lambda tokens: ""), deliver=raise_failure
            )
            for i, r in enumerate(requests)
        ]
        for sequence, tokens in zip(sequences, resumed, strict=False):
            sequence.resume(tokens)
        run(self.loop, sequences)
        return [sequence.output for sequence in sequences]


PRECISIONS = {
    "float32": (torch.float32, "none", "cpu"),
    "bfloat16": (torch.bfloat16, "none", "cpu"),
    "int8": (torch.float32, "int8", "cpu"),
    "int4": (torch.float32, "int4", "cpu"),
}
if torch.cuda.is_available():
    PRECISIONS["bfloat16 on a GPU"] = (torch.bfloat16, "none", "cuda")
    PRECISIONS["float32 on a GPU"] = (torch.float32, "none", "cuda")


@pytest.fixture(scope="module", params=PRECISIONS)
def runner(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Runner:
    dtype, quantization, device = PRECISIONS[request.param]
    model = small_model("qwen3", intermediate_size=96, max_position_embeddings=256)
    _, chosen = packed(model, tmp_path_factory.mktemp("model"), dtype, quantization, device)
    assert isinstance(chosen, PackedRunner)
    return chosen


@pytest.fixture(scope="module")
def alone(runner: Runner) -> list[list[int]]:
    chat = Chat(runner, BLOCKS_FOR_ONE, has_prefix_cache=False)
    answers = [chat.answer([request])[0] for request in draw(1)]
    assert len({tuple(answer) for answer in answers}) > REQUESTS // 2
    return answers


def test_alone_and_in_company(runner: Runner, alone: list[list[int]]) -> None:
    assert Chat(runner, ROOMY).answer(draw(1)) == alone


def test_on_a_warm_prefix_cache(runner: Runner, alone: list[list[int]]) -> None:
    chat = Chat(runner, ROOMY)
    chat.answer(draw(1))
    assert chat.answer(draw(1)[::-1]) == alone[::-1]
    assert chat.scheduler.load.hit_tokens > 0


def test_with_so_little_cache_that_answers_are_preempted(runner: Runner, alone: list[list[int]]) -> None:
    chat = Chat(runner, 2 * BLOCKS_FOR_ONE)
    assert chat.answer(draw(1)) == alone
    assert chat.scheduler.load.preemptions > 0


def test_with_guessed_tokens_of_which_some_are_wrong(
    runner: Runner, alone: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(4)

    def guess(sequence: ChatSequence, most: int) -> list[int]:
        right = alone[sequence.id][len(sequence.output) :][:most]
        return [token if chance.random() < 0.7 else chance.randrange(VOCABULARY) for token in right]

    monkeypatch.setattr(ChatSequence, "guess", guess)
    chat = Chat(runner, ROOMY, draft_rows=24)
    assert chat.answer(draw(1)) == alone
    load = chat.scheduler.load
    assert 0 < load.accepted_tokens < load.draft_tokens


def test_resumed_at_any_token(runner: Runner, alone: list[list[int]]) -> None:
    chance = random.Random(3)
    delivered = [answer[: chance.randint(0, len(answer) - 1)] for answer in alone]
    assert Chat(runner, ROOMY).answer(draw(1), delivered) == alone


@pytest.mark.parametrize("threads", [2, 5])
def test_with_any_number_of_threads(runner: Runner, alone: list[list[int]], threads: int) -> None:
    before = library.threads()
    library.set_threads(threads)
    try:
        assert Chat(runner, ROOMY).answer(draw(1)) == alone
    finally:
        library.set_threads(before)
