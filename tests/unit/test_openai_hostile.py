"""Whatever is sent to OpenAI's routes is a request that an engine can read, or an error that says what is wrong."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelengine import errors, wire
from modelengine.chats import ChatRequest
from modelengine.protocol import to_json
from modelengine_api import failures, ignored
from modelengine_api.bodies import Reader
from modelengine_api.openai.chat import ChatCompletionRequest
from modelengine_api.openai.completion import CompletionRequest
from modelengine_api.openai.response import ResponseRequest

native = Reader(ChatRequest)
chat, completion, response = Reader(ChatCompletionRequest), Reader(CompletionRequest), Reader(ResponseRequest)

WORDS = ["text", "function", "user", "assistant", "tool", "auto", "required", "json_schema", "message", "allowed_tools"]
KEYS = ["type", "role", "content", "name", "function", "tools", "mode", "schema", "json_schema", "text", "tool_calls"]
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(WORDS)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


def bodies(reader: Reader[Any], **good: Any) -> st.SearchStrategy[bytes]:
    """Requests of which some fields are anything at all."""
    names = st.sampled_from([*reader._cls.model_fields, "functions", "anything"])
    return st.dictionaries(names, values, max_size=4).map(lambda bad: json.dumps({**good, **bad}).encode())


def outcome(reader: Reader[Any], body: bytes) -> None:
    """Reads the body as the routes do; what an engine would be asked is read as an engine would."""
    try:
        asked = reader.parse(body)
        natives = asked.natives()
        if isinstance(asked, ResponseRequest):
            orjson.dumps(asked.frame())
    except errors.InvalidRequest as failure:
        error = failures.openai(failure)["error"]
        assert error["message"]
        assert error["type"] == "invalid_request_error"
        json.dumps(error)
        return
    for request in natives:
        native.parse(wire.encode(to_json(request)))
    for value in ignored.headers(asked.ignored()).values():
        value.encode("latin-1")
        assert len(value) < 4096


@settings(max_examples=150, deadline=None)
@given(bodies(chat, model="demo", messages=[{"role": "user", "content": "hi"}]))
def test_a_chat_is_understood_or_refused(body: bytes) -> None:
    outcome(chat, body)


@settings(max_examples=150, deadline=None)
@given(bodies(completion, model="demo", prompt="hi"))
def test_a_completion_is_understood_or_refused(body: bytes) -> None:
    outcome(completion, body)


@settings(max_examples=150, deadline=None)
@given(bodies(response, model="demo", input="hi"))
def test_a_response_is_understood_or_refused(body: bytes) -> None:
    outcome(response, body)


@pytest.mark.parametrize("reader", [chat, completion, response])
@settings(max_examples=100, deadline=None)
@given(body=st.binary(max_size=40) | values.map(lambda value: json.dumps(value).encode()))
def test_what_is_no_request_at_all_is_refused(reader: Reader[Any], body: bytes) -> None:
    outcome(reader, body)
