"""What an answer says beside its content, from the demo model: how likely its tokens were, and what it took."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import pytest

from demo_backend import asking, backend, streamed
from modelengine import errors
from modelengine_runtime.app import EngineBackend
from modelengine_runtime.engine import Engine
from modelengine_runtime.grammars import Grammars
from modelengine_runtime.vocabulary import Vocabulary

QUESTION = "给我介绍一下大型语言模型。"


@pytest.fixture(scope="module")
def demo() -> Iterator[EngineBackend]:
    with backend() as demo:
        yield demo


async def logprobs(demo: EngineBackend, **options: Any) -> list[dict[str, Any]]:
    """Those of the stream, which are those of the whole answer."""
    request = asking(QUESTION, max_new_tokens=20, **options)
    messages = await streamed(demo, request)
    for message in messages:
        assert [each["token_id"] for each in message.get("logprobs", ())] == message["token_ids"]
    came = [each for message in messages for each in message.get("logprobs", ())]
    assert (await demo.whole(request))["logprobs"] == came
    return came


async def test_each_token_says_how_likely_it_was_and_what_else_was(demo: EngineBackend) -> None:
    came = await logprobs(demo, top_logprobs=3)
    answer = await demo.whole(asking(QUESTION, max_new_tokens=20))
    assert b"".join(bytes(each["bytes"]) for each in came).decode() == answer["content"]
    assert len(came) == answer["response_length"] == 20
    for each in came:
        assert len(each["top"]) == 3
        # The answer is greedy.
        assert each["top"][0] == {key: each[key] for key in ("token", "token_id", "logprob", "bytes")}
        assert sum(math.exp(other["logprob"]) for other in each["top"]) <= 1 + 1e-6
        assert "top" not in each["top"][0]


async def test_none_of_the_others_is_an_empty_list(demo: EngineBackend) -> None:
    assert all(each["top"] == [] for each in await logprobs(demo, top_logprobs=0))


async def test_likelihoods_are_the_models_own_where_its_choice_is_bound(demo: EngineBackend) -> None:
    bound = asking("Hello", top_logprobs=1, response_format={"type": "choice", "choice": ("no",)})
    answer = await demo.whole(bound)
    assert answer["logprobs"][0]["token"] != answer["logprobs"][0]["top"][0]["token"]
    assert answer["logprobs"][0]["logprob"] < answer["logprobs"][0]["top"][0]["logprob"]


async def test_they_are_told_of_a_model_whose_tokens_can_t_be_read_for_grammars(demo: EngineBackend) -> None:
    known = await logprobs(demo, top_logprobs=2)
    engine = demo._lifecycle.engine
    assert isinstance(engine, Engine)
    whole, unread = engine.model, Grammars(Vocabulary(lambda: "{}", [2]))
    engine.model = dataclasses.replace(whole, grammars=unread)
    try:
        came = await logprobs(demo, top_logprobs=2)
        with pytest.raises(errors.InvalidRequest, match="tokens can't be read"):
            await demo.whole(asking(QUESTION, top_logprobs=2, response_format={"type": "json_object"}))
    finally:
        engine.model = whole
        unread.close()
    for each, other in zip(came, known, strict=True):
        assert (each["token_id"], each["logprob"]) == (other["token_id"], other["logprob"])
        # What is a piece of a character has no bytes that anybody could know.
        assert each["bytes"] == (other["bytes"] if "\ufffd" not in each["token"] else None)
    assert any(each["bytes"] for each in came)


async def test_who_did_not_ask_hears_nothing(demo: EngineBackend) -> None:
    assert "logprobs" not in await demo.whole(asking(QUESTION, max_new_tokens=3))


async def test_a_token_that_is_made_unlikely_does_not_come(demo: EngineBackend) -> None:
    first, *_ = (await demo.whole(asking(QUESTION, max_new_tokens=5)))["token_ids"]
    biased = await demo.whole(asking(QUESTION, max_new_tokens=5, logit_bias={first: -100.0}))
    assert first not in biased["token_ids"]
    only = await demo.whole(asking(QUESTION, max_new_tokens=5, logit_bias={first: 100.0}))
    assert only["token_ids"] == [first] * 5


async def test_guesses_are_judged_by_the_changed_scores(demo: EngineBackend) -> None:
    loop = demo._lifecycle.engine.loop
    request = {"max_new_tokens": 40, "logit_bias": {400: 100.0}}
    before = loop.load.accepted_tokens
    guessed = await demo.whole(asking(QUESTION, **request))
    assert guessed["token_ids"] == [400] * 40
    assert loop.load.accepted_tokens > before + 10


async def test_a_token_that_the_model_does_not_have_is_refused(demo: EngineBackend) -> None:
    with pytest.raises(errors.InvalidRequest, match=r"options\.logit_bias\.4096: must be a token below 4096"):
        await demo.whole(asking(QUESTION, logit_bias={3: 1.0, 4096: 1.0}))


async def test_an_answer_says_what_of_its_prompt_was_known_and_how_long_it_took(demo: EngineBackend) -> None:
    question = "Please tell me a story about a name server that knows where everybody lives. " * 3
    first = await demo.whole(asking(question, max_new_tokens=3))
    messages = await streamed(demo, asking(question, max_new_tokens=3))
    again = messages[-1]
    assert first["cached_tokens"] < 16
    assert first["prompt_length"] - 17 <= again["cached_tokens"] < first["prompt_length"]
    assert again["cached_tokens"] % 16 == 0
    assert set(again["timings"]) == {"queued_s", "prompt_s", "answer_s"}
    assert all(seconds >= 0 for seconds in again["timings"].values())
    assert "timings" not in messages[0]


THINKING = "Think step by step: what is 47 + 38?"


async def test_a_thought_comes_apart_from_what_is_said(demo: EngineBackend) -> None:
    answer = await demo.whole(asking(THINKING))
    assert answer["reasoning_content"] == "7 + 8 = 15, carry 1\n4 + 3 + 1 = 8"
    assert (answer["content"], answer["finish_reason"]) == ("47 + 38 = 85", "stop")
    messages = await streamed(demo, asking(THINKING))
    assert both(messages) == (answer["reasoning_content"], answer["content"])
    assert all(part["token_ids"] and (part["content"] or part["reasoning_content"]) for part in messages[:-1])
    assert all(not part["content"] for part in messages[:-1] if "reasoning_content" in part)


async def test_a_thought_that_broke_off_goes_on_behind_every_part(demo: EngineBackend) -> None:
    whole = await streamed(demo, asking(THINKING))
    for i in range(len(whole)):
        tokens = tuple(token for message in whole[:i] for token in message["token_ids"])
        rest = await streamed(demo, asking(THINKING, resume={"token_ids": tokens}))
        assert both([*whole[:i], *rest]) == both(whole)


async def test_a_thought_goes_back_to_the_model_with_what_was_said(demo: EngineBackend) -> None:
    said = {"role": "assistant", "content": "47 + 38 = 85"}
    without = await demo.whole(asking(THINKING, said, "Hello", max_new_tokens=1))
    thought = {**said, "reasoning_content": "7 + 8 = 15"}
    with_it = await demo.whole(asking(THINKING, thought, "Hello", max_new_tokens=1))
    assert with_it["prompt_length"] > without["prompt_length"]


def both(messages: list[dict[str, Any]]) -> tuple[str, str]:
    """What was thought, and what was said."""
    thought = "".join(message.get("reasoning_content", "") for message in messages)
    return thought, "".join(message["content"] or "" for message in messages)
