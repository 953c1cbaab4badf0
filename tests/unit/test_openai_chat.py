"""Native answers as OpenAI's chats, held against the `openai` package's own models."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from modelengine import errors, wire
from modelengine.chats import ChatChunk, ChatResponse
from modelengine.protocol import to_json
from modelengine_api.openai import chat_answer, parts
from modelengine_api.openai.chat_answer import ChatStream
from openai_types import chunks, typed

CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Rome"}'}}
LIKELY = {
    "token": "é",
    "token_id": 7,
    "logprob": -0.5,
    "bytes": [195, 169],
    "top": [{"token": "é", "token_id": 7, "logprob": -0.5, "bytes": [195, 169]}],
}
LIKELIHOOD = {
    "token": "é",
    "logprob": -0.5,
    "bytes": [195, 169],
    "top_logprobs": [{"token": "é", "logprob": -0.5, "bytes": [195, 169]}],
}


def line(content: str | None = "", reason: str | None = None, **fields: Any) -> bytes:
    """A native line, its last part where there is a reason to end."""
    part = ChatChunk("demo", 5, 2, reason, None if reason else content, reason is not None)
    return wire.encode_line(wire.ok({**to_json(part), **fields}))


def whole(content: str = "hi", reason: str = "stop", **fields: Any) -> Mapping[str, Any]:
    return {**to_json(ChatResponse("demo", 5, 2, reason, content)), **fields}


def streamed(*lines: bytes, wants_usage: bool = False) -> list[ChatCompletionChunk]:
    stream = ChatStream("demo", 7, 1, wants_usage)
    body = b"".join([stream.feed(0, parts.of(data).parts) for data in lines])
    assert stream.is_complete
    return chunks(body + stream.end())


def completion(answers: Sequence[Mapping[str, Any]], wants_logprobs: bool = False) -> ChatCompletion:
    return typed(ChatCompletion, json.dumps(chat_answer.whole(answers, "demo", 7, wants_logprobs)))


def test_a_stream_says_the_role_then_the_text_then_why_it_ended() -> None:
    said = streamed(line("Hel"), line("lo"), line(reason="stop"))
    assert [chunk.choices[0].delta.to_dict() for chunk in said] == [
        {"role": "assistant", "content": ""},
        {"content": "Hel"},
        {"content": "lo"},
        {},
    ]
    assert [chunk.choices[0].finish_reason for chunk in said] == [None, None, None, "stop"]
    assert {(chunk.id[:9], chunk.created, chunk.model, chunk.usage) for chunk in said} == {
        ("chatcmpl-", 7, "demo", None)
    }
    assert len({chunk.id for chunk in said}) == 1


def test_lines_that_come_together_are_one_piece_and_an_event_each() -> None:
    assert len(streamed(line("a") + line("b") + line(reason="length"))) == 4


def test_text_of_every_kind_is_said_as_it_is() -> None:
    text = '\n\n data: "\\ \u2028 😀 \x00 {'
    assert streamed(line(text), line(reason="stop"))[1].choices[0].delta.content == text


def test_who_asks_for_the_usage_gets_it_last_and_a_null_before() -> None:
    *before, last = streamed(line("a"), line(reason="stop", cached_tokens=4), wants_usage=True)
    assert [chunk.usage for chunk in before] == [None, None, None]
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.to_dict() == {
        "prompt_tokens": 5,
        "completion_tokens": 2,
        "total_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 4},
    }


def test_calls_are_numbered_through_the_answer_however_they_come() -> None:
    second = {**CALL, "id": "call_2", "index": 1}
    said = streamed(line(tool_calls=[{**CALL, "index": 0}]), line(tool_calls=[second]), line(reason="tool_calls"))
    calls = [call.to_dict() for chunk in said for call in chunk.choices[0].delta.tool_calls or []]
    assert calls == [{**CALL, "index": 0}, second]
    assert said[-1].choices[0].finish_reason == "tool_calls"


def test_thoughts_are_told_apart_from_what_is_said() -> None:
    said = streamed(line(reasoning_content="hm"), line("yes"), line(reason="stop"))
    assert [chunk.choices[0].delta.to_dict() for chunk in said[1:3]] == [
        {"reasoning_content": "hm"},
        {"content": "yes"},
    ]


def test_likelihoods_come_with_the_text_of_their_tokens_even_where_there_is_none_yet() -> None:
    said = streamed(line("", logprobs=[LIKELY]), line("é", logprobs=[]), line(reason="stop", logprobs=[LIKELY]))
    found = [chunk.choices[0].logprobs for chunk in said]
    assert [None if each is None else [token.to_dict() for token in each.content or []] for each in found] == [
        None,
        [LIKELIHOOD],
        [],
        [LIKELIHOOD],
    ]


def test_how_likely_thoughts_and_marks_were_is_not_said_of_the_content() -> None:
    of_thought = {**LIKELY, "is_content": False}
    said = streamed(
        line(reasoning_content="hm", logprobs=[of_thought]),
        line("é", logprobs=[of_thought, LIKELY]),
        line(logprobs=[of_thought]),
        line(reason="stop", logprobs=[of_thought]),
    )
    found = [chunk.choices[0].logprobs for chunk in said]
    assert [each and [token.to_dict() for token in each.content or []] for each in found] == [
        None,
        None,
        [LIKELIHOOD],
        None,
    ]
    asked = completion([whole(logprobs=[of_thought, LIKELY])], wants_logprobs=True).choices[0].logprobs
    assert asked is not None
    assert [token.to_dict() for token in asked.content or []] == [LIKELIHOOD]


def test_what_a_token_can_not_be_is_a_number_in_json_too() -> None:
    impossible = {"token": "x", "token_id": 1, "logprob": None, "bytes": None, "top": []}
    answer = completion([whole(logprobs=[impossible])], wants_logprobs=True)
    assert answer.choices[0].logprobs is not None
    assert [token.logprob for token in answer.choices[0].logprobs.content or []] == [-9999.0]


def test_what_came_before_an_error_line_is_not_lost_by_it() -> None:
    batch = parts.of(line("a") + wire.encode_line(wire.error(errors.RequestFailed("it broke"))) + line("b"))
    assert [part["content"] for part in batch.parts] == ["a"]
    assert isinstance(batch.failure, errors.RequestFailed)
    stream = ChatStream("demo", 7, 1, False)
    stream.feed(0, batch.parts)
    assert not stream.is_complete


@pytest.mark.parametrize("garbage", [b"{\n", b"[]\n", b'{"state":"ok","msg":5}\n'])
def test_a_line_that_is_no_part_breaks_the_stream(garbage: bytes) -> None:
    assert isinstance(parts.of(garbage).failure, errors.StreamBroken)


def test_choices_of_one_stream_begin_and_end_on_their_own() -> None:
    stream = ChatStream("demo", 7, 2, True)
    body = (
        stream.feed(1, parts.of(line("b")).parts)
        + stream.feed(0, parts.of(line("a")).parts)
        + stream.feed(1, parts.of(line(reason="length")).parts)
    )
    assert not stream.is_complete
    said = chunks(body + stream.feed(0, parts.of(line(reason="stop")).parts) + stream.end())
    assert [(choice.index, choice.delta.role, choice.delta.content) for chunk in said for choice in chunk.choices] == [
        (1, "assistant", ""),
        (1, None, "b"),
        (0, "assistant", ""),
        (0, None, "a"),
        (1, None, None),
        (0, None, None),
    ]
    assert said[-1].usage is not None
    assert (said[-1].usage.prompt_tokens, said[-1].usage.completion_tokens) == (5, 4)


def test_a_whole_answer_has_a_message_for_each_choice_and_counts_the_prompt_once() -> None:
    answer = completion([whole("a", cached_tokens=0), whole("b", "length", cached_tokens=4)])
    assert [(choice.index, choice.message.content, choice.finish_reason) for choice in answer.choices] == [
        (0, "a", "stop"),
        (1, "b", "length"),
    ]
    assert (answer.id[:9], answer.created, answer.model) == ("chatcmpl-", 7, "demo")
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (5, 4, 9)
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 0


@pytest.mark.parametrize(("content", "said"), [("", None), ("see:", "see:")])
def test_a_message_that_only_calls_has_no_content(content: str, said: str | None) -> None:
    answer = completion([whole(content, "tool_calls", tool_calls=[{**CALL, "index": 0}], reasoning_content="hm")])
    message = answer.choices[0].message
    assert (message.content, [call.to_dict() for call in message.tool_calls or []]) == (said, [CALL])
    assert message.to_dict()["reasoning_content"] == "hm"


def test_an_empty_answer_has_an_empty_content() -> None:
    assert completion([whole("")]).choices[0].message.content == ""


def test_a_whole_answer_has_likelihoods_only_where_they_were_asked_for() -> None:
    assert completion([whole()]).choices[0].logprobs is None
    asked = completion([whole(logprobs=[LIKELY])], wants_logprobs=True).choices[0].logprobs
    assert asked is not None
    assert [token.to_dict() for token in asked.content or []] == [LIKELIHOOD]
