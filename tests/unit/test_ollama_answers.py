"""Native answers as Ollama's clients read them, checked with the types of their own package."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from typing import Any

import ollama
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelengine import errors, wire
from modelengine.chats import ChatChunk
from modelengine.protocol import to_json
from modelengine_api.ollama import timestamps
from modelengine_api.ollama.answers import Answer, Kind

# 2026-11-26 17:12:52 and one nanosecond.
WALL_NS = 1_795_713_172_000_000_001
MS = 1_000_000


def answer(kind: Kind = "chat", clock_ms: Any = None) -> Answer:
    """An answer whose clock goes on by a millisecond each time it is looked at, or as told."""
    ticks = iter(clock_ms or itertools.count())
    return Answer(kind, "demo:latest", clock_ns=lambda: next(ticks) * MS, wall_ns=lambda: WALL_NS)


def native(**fields: Any) -> bytes:
    part = to_json(ChatChunk("demo", 3, 1, None, "", False, token_ids=(5,)))
    return wire.encode_line(wire.ok({**part, **fields}))


def last(reason: str = "stop", **fields: Any) -> bytes:
    return native(content=None, done=True, finish_reason=reason, prompt_length=7, response_length=11, **fields)


def said(line: bytes) -> dict[str, Any]:
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    decoded: dict[str, Any] = json.loads(line)
    return decoded


def test_a_part_of_a_chat_is_a_message() -> None:
    assert said(answer().line(native(content="Hello\n"))) == {
        "model": "demo:latest",
        "created_at": "2026-11-26T17:12:52.000000001Z",
        "message": {"role": "assistant", "content": "Hello\n"},
        "done": False,
    }


def test_a_part_of_a_prompt_s_answer_is_a_response() -> None:
    assert said(answer("generate").line(native(content="Hello"))) == {
        "model": "demo:latest",
        "created_at": "2026-11-26T17:12:52.000000001Z",
        "response": "Hello",
        "done": False,
    }


def test_thoughts_stand_beside_what_is_said() -> None:
    thinking = native(reasoning_content="hm")
    assert said(answer().line(thinking))["message"] == {"role": "assistant", "content": "", "thinking": "hm"}
    of_a_prompt = said(answer("generate").line(thinking))
    assert (of_a_prompt["response"], of_a_prompt["thinking"]) == ("", "hm")


@pytest.mark.parametrize("arguments", ['{"town":"Bonn"}', {"town": "Bonn"}])
def test_the_arguments_of_a_tool_call_are_an_object(arguments: Any) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": arguments}}
    one = answer()
    lines = [one.line(native(tool_calls=calls)) for calls in ([call], [call, call])]
    expected = {"name": "weather", "arguments": {"town": "Bonn"}}
    assert [item for line in lines for item in said(line)["message"]["tool_calls"]] == [
        {"id": "c1", "function": {"index": index, **expected}} for index in range(3)
    ]
    line = lines[0]
    calls = ollama.ChatResponse(**said(line)).message.tool_calls
    assert calls is not None
    assert calls[0].function.arguments == {"town": "Bonn"}


@pytest.mark.parametrize("arguments", ["{", "[1]", "", None])
def test_a_tool_call_that_can_t_be_said_is_an_error_and_not_lost(arguments: Any) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": arguments}}
    with pytest.raises(errors.RequestFailed, match="no JSON object"):
        answer().line(native(tool_calls=[call]))


def test_likelihoods_have_the_form_of_ollama() -> None:
    told = {"token": "a", "token_id": 1, "logprob": -0.5, "bytes": [97]}
    line = answer().line(native(content="a", logprobs=[{**told, "top": [{**told, "token": "b"}]}]))
    item = {"token": "a", "logprob": -0.5, "bytes": [97]}
    assert said(line)["logprobs"] == [{**item, "top_logprobs": [{**item, "token": "b"}]}]
    parsed = ollama.ChatResponse(**said(line)).logprobs
    assert parsed is not None
    assert parsed[0].top_logprobs is not None
    assert (parsed[0].token, parsed[0].top_logprobs[0].token) == ("a", "b")


def test_a_part_that_says_nothing_is_no_line() -> None:
    assert answer().line(native(content="")) == b""


@pytest.mark.parametrize(("reason", "expected"), [("stop", "stop"), ("length", "length"), ("tool_calls", "stop")])
def test_the_last_part_counts_and_says_why_it_ended(reason: str, expected: str) -> None:
    one = answer()
    assert not one.is_done
    ending = said(one.line(last(reason)))
    assert one.is_done
    assert (ending["done"], ending["done_reason"]) == (True, expected)
    assert (ending["prompt_eval_count"], ending["eval_count"]) == (7, 11)
    assert ending["message"] == {"role": "assistant", "content": ""}


def test_durations_are_the_engine_s_in_nanoseconds_and_the_whole_is_measured_here() -> None:
    timings = {"queued_s": 0.25, "prompt_s": 0.5, "answer_s": 1.5}
    ending = said(answer(clock_ms=[0, 300, 2400]).line(last(timings=timings)))
    assert durations(ending) == (2400 * MS, 250 * MS, 500 * MS, 1500 * MS)


def test_durations_are_measured_here_where_the_engine_does_not_tell() -> None:
    one = answer(clock_ms=[0, 300, 2400])
    one.line(native(content="a"))
    assert durations(said(one.line(last()))) == (2400 * MS, 0, 300 * MS, 2100 * MS)


def durations(ending: Mapping[str, Any]) -> tuple[int, ...]:
    keys = ("total_duration", "load_duration", "prompt_eval_duration", "eval_duration")
    assert all(type(ending[key]) is int for key in keys)
    return tuple(ending[key] for key in keys)


def test_nobody_who_computes_tokens_per_second_divides_by_zero() -> None:
    timings = {"queued_s": 0.0, "prompt_s": 0.0, "answer_s": 0.0}
    ending = said(answer().line(last(timings=timings)))
    assert ending["eval_duration"] > 0
    assert ending["prompt_eval_duration"] > 0


@pytest.mark.parametrize("kind", ["chat", "generate"])
def test_a_whole_answer_is_one_object_of_the_same_form(kind: Kind) -> None:
    whole = answer(kind).whole(
        {
            "model": "demo",
            "prompt_length": 3,
            "response_length": 4,
            "finish_reason": "length",
            "content": "Hello",
            "reasoning_content": "hm",
            "timings": {"queued_s": 0.0, "prompt_s": 0.001, "answer_s": 0.002},
        }
    )
    text = whole["message"]["content"] if kind == "chat" else whole["response"]
    assert (text, whole["done"], whole["done_reason"], whole["eval_count"]) == ("Hello", True, "length", 4)
    assert (whole["prompt_eval_duration"], whole["eval_duration"]) == (1 * MS, 2 * MS)
    (ollama.ChatResponse if kind == "chat" else ollama.GenerateResponse)(**whole)


def test_an_error_among_the_lines_is_raised_as_what_it_was() -> None:
    with pytest.raises(errors.Busy, match="full"):
        answer().line(wire.encode_line(wire.error(errors.Busy("full"))))


@pytest.mark.parametrize("line", [b"<html>", b"[]", b'"x"', b'{"msg":{}}'])
def test_a_line_that_is_none_of_ours_breaks_the_stream(line: bytes) -> None:
    with pytest.raises(errors.StreamBroken):
        answer().line(line)


@given(st.text(), st.sampled_from(["chat", "generate"]))
def test_any_text_arrives_as_it_was(text: str, kind: Kind) -> None:
    line = answer(kind).line(native(content=f"{text}."))
    parsed = orjson.loads(line)
    assert (parsed["message"]["content"] if kind == "chat" else parsed["response"]) == f"{text}."


def test_stamps_within_a_second_and_in_the_next_are_all_right() -> None:
    stamps = timestamps.Stamps()
    assert [stamps.stamp(ns) for ns in (0, 999_999_999, 1_000_000_000, 5)] == [
        "1970-01-01T00:00:00.000000000Z",
        "1970-01-01T00:00:00.999999999Z",
        "1970-01-01T00:00:01.000000000Z",
        "1970-01-01T00:00:00.000000005Z",
    ]


def test_a_date_that_never_comes_is_still_one_that_64_bits_can_say() -> None:
    import datetime

    never = datetime.datetime.fromisoformat(timestamps.NEVER)
    assert math.floor(never.timestamp()) == (2**63 - 1) // timestamps.NS
