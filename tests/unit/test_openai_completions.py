"""OpenAI's old completions: a prompt as what a user says, and answers held against the package's own models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from openai.types import Completion

from modelengine import errors
from modelengine.chats import (
    AS_MUCH_AS_FITS,
    ChatChunk,
    ChatOptions,
    ChatRequest,
    ChatResponse,
    Message,
    ResponseFormat,
)
from modelengine.protocol import to_json
from modelengine_api.bodies import Reader
from modelengine_api.openai import completion_answer
from modelengine_api.openai.completion import CompletionRequest
from modelengine_api.openai.completion_answer import CompletionStream
from openai_types import completions, typed

reader = Reader(CompletionRequest)


def read(**given: Any) -> CompletionRequest:
    return reader.parse(json.dumps({"model": "demo", "prompt": "hi", **given}).encode())


def part(content: str = "", reason: str | None = None, **fields: Any) -> Mapping[str, Any]:
    chunk = ChatChunk("demo", 5, 2, reason, None if reason else content, reason is not None)
    return {**to_json(chunk), **fields}


def whole(content: str, reason: str = "stop", **fields: Any) -> Mapping[str, Any]:
    return {**to_json(ChatResponse("demo", 5, 2, reason, content)), **fields}


def token(text: str, spelt: bytes | None = None) -> Mapping[str, Any]:
    top = [{"token": "other", "token_id": 9, "logprob": -0.1}]
    return {"token": text, "token_id": 1, "logprob": -2.0, "bytes": spelt and list(spelt), "top": top}


def test_a_prompt_is_what_a_user_says() -> None:
    (native,) = read(max_tokens=7, logprobs=3, temperature=0.5, user="ada").natives()
    options = ChatOptions(max_new_tokens=7, top_logprobs=3, temperature=0.5, think=False)
    assert native == ChatRequest("demo", (Message("user", "hi"),), options=options, stream=False)
    assert list(read(user="ada").ignored()) == ["user"]


@pytest.mark.parametrize(
    ("given", "form"),
    [
        ({"structured_outputs": {"choice": ["a", "b"]}}, ResponseFormat("choice", choice=("a", "b"))),
        ({"response_format": {"type": "json_object"}}, ResponseFormat("json_object")),
    ],
)
def test_an_answer_is_in_the_format_that_is_asked_for(given: Any, form: ResponseFormat) -> None:
    asked = read(prompt=["a", "b"], **given)
    assert [native.options.response_format for native in asked.natives()] == [form, form]
    assert list(asked.ignored()) == []


def test_minus_one_token_is_as_many_as_fit() -> None:
    assert read(max_tokens=-1).natives()[0].options.max_new_tokens == AS_MUCH_AS_FITS


def test_every_prompt_has_its_choices_with_seeds_of_their_own() -> None:
    asked = read(prompt=["a", "b"], n=2, best_of=2, seed=5, echo=True)
    found = [(native.messages[0].content, native.options.seed) for native in asked.natives()]
    assert found == [("a", 5), ("a", 6), ("b", 5), ("b", 6)]
    assert asked.echoes() == ["a", "a", "b", "b"]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"prompt": None}, "prompt: is required"),
        ({"prompt": []}, "prompt: must have at least 1 item(s), got 0"),
        ({"prompt": [1, 2]}, "prompt[0]: must be a string: prompts of token ids are not taken"),
        ({"prompt": ["a", [1, 2]]}, "prompt[1]: must be a string: prompts of token ids are not taken"),
        ({"prompt": ["a"] * 33}, "prompt: must have at most 32 items, got 33"),
        ({"prompt": ["a"] * 5, "n": 8}, "prompt: 5 prompts with n=8 are over 32 answers"),
        ({"guided_choice": ["a"]}, "guided_choice: was given up by vLLM; use structured_outputs.choice"),
        ({"suffix": "x"}, "suffix: is not taken: models here answer, they don't fill in"),
        ({"best_of": 3}, "best_of: must be as n is, 1, got 3: every answer is returned"),
        (
            {"echo": True, "logprobs": 0},
            "echo: is only allowed without logprobs: how likely a prompt is, is not known here",
        ),
        ({"stream_options": {}}, "stream_options: is only allowed where stream is true"),
        ({"logprobs": True}, "logprobs: must be a whole number, got true"),
    ],
)
def test_what_can_not_be_done_is_refused(given: Any, sentence: str) -> None:
    with pytest.raises(errors.InvalidRequest) as failure:
        read(**given).natives()
    assert failure.value.message == sentence


def test_a_whole_answer_has_the_text_of_each_choice_and_counts_each_prompt_once() -> None:
    answers = [whole("x"), whole("y", "length"), whole("z"), whole("")]
    raw = completion_answer.whole(answers, "demo", 7, ["a", "a", "b", "b"], 2)
    answer = typed(Completion, json.dumps(raw))
    assert [(choice.index, choice.text, choice.finish_reason) for choice in answer.choices] == [
        (0, "ax", "stop"),
        (1, "ay", "length"),
        (2, "bz", "stop"),
        (3, "b", "stop"),
    ]
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (10, 8, 18)


def test_likelihoods_are_lists_whose_offsets_count_characters() -> None:
    tokens = [token("a"), token("\ufffd", b"\xc3"), token("\ufffd", b"\xa9"), token("bc")]
    raw = completion_answer.whole([whole("aébc", logprobs=tokens)], "demo", 7, [""], 1)
    found = typed(Completion, json.dumps(raw)).choices[0].logprobs
    assert found is not None
    assert found.tokens == ["a", "\ufffd", "\ufffd", "bc"]
    assert found.token_logprobs == [-2.0] * 4
    assert found.text_offset == [0, 1, 1, 2]
    assert (found.top_logprobs or [])[0] == {"other": -0.1, "a": -2.0}


def test_a_stream_says_the_echo_first_and_the_usage_last() -> None:
    stream = CompletionStream("demo", 7, ["Q: "], 1, True)
    body = stream.feed(0, [part("a", logprobs=[token("a")]), part("b")])
    assert not stream.is_complete
    body += stream.feed(0, [part(reason="length")])
    assert stream.is_complete
    *said, last = completions(body + stream.end())
    assert [(chunk.choices[0].text, chunk.choices[0].finish_reason) for chunk in said] == [
        ("Q: a", None),
        ("b", None),
        ("", "length"),
    ]
    assert said[0].choices[0].logprobs is not None
    assert said[0].choices[0].logprobs.text_offset == [3]
    assert len({chunk.id for chunk in said}) == 1
    assert (last.choices, last.usage and last.usage.total_tokens) == ([], 7)


def test_thoughts_that_come_all_the_same_are_not_lost() -> None:
    stream = CompletionStream("demo", 7, [""], 1, False)
    body = stream.feed(0, [part(reasoning_content="hm"), part(reason="stop")]) + stream.end()
    assert completions(body)[0].choices[0].to_dict()["reasoning_content"] == "hm"
    raw = completion_answer.whole([whole("x", reasoning_content="hm")], "demo", 7, [""], 1)
    assert raw["choices"][0]["reasoning_content"] == "hm"
