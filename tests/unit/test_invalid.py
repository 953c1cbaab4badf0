"""What whoever wrote a wrong request is told: the field, what is allowed, and what was given."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelengine import errors, wire
from modelengine.chats import ChatOptions, ChatRequest, Message
from modelengine_api import invalid
from modelengine_api.bodies import Reader

GOOD = {"model": "demo", "messages": [{"role": "user", "content": "hi"}]}
reader = Reader(ChatRequest)


def refused(body: Any) -> errors.InvalidRequest:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(errors.InvalidRequest) as failure:
        reader.parse(raw)
    return failure.value


def test_a_request_is_read_into_the_frozen_dataclass_with_tuples() -> None:
    body = {**GOOD, "options": {"temperature": 1, "stop": ["a", "b"]}, "tools": [{"type": "function"}]}
    assert reader.parse(json.dumps(body).encode()) == ChatRequest(
        "demo",
        (Message("user", "hi"),),
        tools=({"type": "function"},),
        options=ChatOptions(temperature=1.0, stop=("a", "b")),
    )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"temperature": 9}, "options.temperature: must be at most 5, got 9"),
        ({"temperature": -0.5}, "options.temperature: must be at least 0, got -0.5"),
        ({"temperature": "hot"}, 'options.temperature: must be a number, got "hot"'),
        ({"temperature": True}, "options.temperature: must be a number, got true"),
        ({"top_p": 0}, "options.top_p: must be more than 0, got 0"),
        ({"max_tokens": 1.5}, "options.max_tokens: must be a whole number, got 1.5"),
        ({"max_tokens": "1"}, 'options.max_tokens: must be a whole number, got "1"'),
        ({"seed": 2**70}, f"options.seed: must be at most {2**63 - 1}, got {2**70}"),
        ({"logit_bias": {"a": 1}}, 'options.logit_bias.a: must be a whole number, got "a"'),
        ({"logit_bias": {"-1": 1}}, 'options.logit_bias.-1: must be at least 0, got "-1"'),
        ({"logit_bias": {"5": 101}}, "options.logit_bias.5: must be at most 100, got 101"),
        ({"stop": 5}, "options.stop: must be a string or a list, got 5"),
        ({"stop": ["a", None]}, "options.stop[1]: must be a string, got null"),
        ({"stop": [5]}, "options.stop[0]: must be a string, got 5"),
        ({"stop": [""]}, 'options.stop[0]: must have at least 1 character(s), got ""'),
        ({"stop": ""}, 'options.stop: must have at least 1 character(s), got ""'),
        ({"stop": ["x"] * 17}, "options.stop: must have at most 16 items, got 17"),
        ([], "options: must be an object, got []"),
    ],
)
def test_a_wrong_option_is_named_with_what_is_allowed(options: Any, sentence: str) -> None:
    assert refused({**GOOD, "options": options}).message == sentence


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"messages": []}, "messages: must have at least 1 item(s), got 0"),
        ({"messages": "hi"}, 'messages: must be a list, got "hi"'),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content: must be a string, got 5"),
        ({"messages": [{"content": "hi"}]}, "messages[0].role: is required"),
        ({"messages": [{"role": None}]}, "messages[0].role: is required"),
        ({"messages": [None]}, "messages[0]: must be an object, got null"),
        ({"model": ""}, 'model: must have at least 1 character(s), got ""'),
        ({"model": None}, "model: is required"),
        ({"tools": [3]}, "tools[0]: must be an object, got 3"),
        ({"stream": "yes"}, 'stream: must be true or false, got "yes"'),
    ],
)
def test_a_wrong_field_is_named_by_its_path(change: dict[str, Any], sentence: str) -> None:
    assert refused({**GOOD, **change}).message == sentence


def test_a_misspelt_option_is_told_the_near_one_and_all_known_ones() -> None:
    message = refused({**GOOD, "options": {"temprature": 1}}).message
    assert message.startswith("options.temprature: unknown; did you mean 'temperature'? known are frequency_penalty, ")
    assert "top_p" in message


def test_an_unknown_field_of_a_message_is_told_the_fields_of_a_message() -> None:
    message = refused({**GOOD, "messages": [{"role": "user", "contents": "hi"}]}).message
    assert message == (
        "messages[0].contents: unknown; did you mean 'content'? "
        "known are content, name, reasoning_content, role, tool_call_id, tool_calls"
    )


def test_an_option_that_resembles_nothing_gets_no_guess() -> None:
    assert "options.zzz: unknown; known are" in refused({**GOOD, "options": {"zzz": 1}}).message


@pytest.mark.parametrize("field", ["options", "tools", "stream"])
def test_null_counts_as_left_out(field: str) -> None:
    assert reader.parse(json.dumps({**GOOD, field: None}).encode()) == reader.parse(json.dumps(GOOD).encode())


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"model": "demo",\n "messages": [}', "line 2 column 15"),
        (b'{"model":', "line 1 column 9"),
        (b"\xff\xfe", "line 1 column 1"),
        (b'{"model": "\\ud800"}', "line 1"),
    ],
)
def test_malformed_json_is_told_where(body: bytes, says: str) -> None:
    message = refused(body).message
    assert message.startswith("body: is not JSON: ")
    assert says in message


@pytest.mark.parametrize("body", [[], "x", 5, None])
def test_a_body_that_is_no_object_is_told_so(body: Any) -> None:
    assert refused(body).message.startswith("body: must be an object, got ")


def test_no_body_at_all_is_an_empty_object() -> None:
    assert refused(b"").message == "model: is required"


def test_every_fault_stands_in_the_details_and_the_inputs_are_cut() -> None:
    failure = refused({"model": 5, "messages": [{"role": "x" * 5000, "content": 5}]})
    assert [(item["type"], item["loc"]) for item in failure.details] == [
        ("string_type", "model"),
        ("literal_error", "messages[0].role"),
        ("string_type", "messages[0].content"),
    ]
    assert len(failure.details[1]["input"]) < 110
    assert len(failure.message) < 200


def test_no_more_than_twenty_faults_are_listed() -> None:
    failure = refused({**GOOD, "messages": [{"role": "user", "content": i} for i in range(500)]})
    assert len(failure.details) == invalid.MAX_FAULTS


def test_what_pydantic_says_in_words_we_do_not_know_is_passed_on() -> None:
    failure = invalid.explain([{"type": "novel", "loc": ("a", 0), "msg": "Should be nice", "input": {"x": 1}}])
    assert failure.message == "a[0]: Should be nice, got {'x': 1}"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["model", "messages", "options", "tools", "stream", "x"]), json_values))
def test_whatever_comes_is_read_or_refused_with_a_reason_that_json_can_say(body: dict[str, Any]) -> None:
    refusal = None
    try:
        reader.parse(json.dumps(body).encode())
    except errors.InvalidRequest as failure:
        refusal = failure
    assert refusal is None or json.dumps(wire.error(refusal), allow_nan=False)


def test_a_number_that_is_too_large_for_everything_is_shown_by_its_ends() -> None:
    message = refused(json.dumps({**GOOD, "options": {"seed": 10**400}}).encode()).message
    assert message.startswith("options.seed: must be at most 9223372036854775807, got 1000000")
    assert len(message) < 200
