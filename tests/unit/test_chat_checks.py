"""Requests whose fields do not go together, or whose plain objects have another form."""

import pytest

from modelengine import errors
from modelengine.chat_request import chat_request
from modelengine_api import chat_checks

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def with_parameters(parameters):
    return {"type": "function", "function": {"name": "f", "parameters": parameters}}


def nested(levels):
    inner = {}
    for _ in range(levels):
        inner = {"items": inner}
    return inner


def request(messages=({"role": "user", "content": "hello"},), tools=(TOOL,), tool_choice=None, **options):
    return chat_request("demo", messages, tools, options, True, None, tool_choice)


def calling(call):
    return [{"role": "assistant", "tool_calls": (call,)}]


def function(arguments):
    return calling({"function": {"name": "f", "arguments": arguments}})


@pytest.mark.parametrize(
    "chat",
    [
        request(),
        request(tools=None),
        request(tools=[{"type": "function", "function": {"name": "f"}}]),
        request(calling({"id": "1", "type": "function", "function": {"name": "f", "arguments": {}}})),
        request(function("")),
        request(function('{"a": 1}')),
        request(tool_choice="none", response_format={"type": "json_object"}),
        request(response_format={"type": "text"}),
        request(tools=None, response_format={"type": "json_schema", "json_schema": {"a": [{"b": [{}]}]}}),
        request(max_tokens=3, max_new_tokens=3),
        request(response_format={"type": "json_object"}),
        request(tool_choice="required", response_format={"type": "json_schema", "json_schema": {}}),
        # Written out for the model, and no grammar.
        request(tools=[with_parameters({"description": "y" * 70_000, "x-guidance": {}})]),
        request(tools=[with_parameters({"description": "y" * 70_000})], tool_choice="auto"),
    ],
)
def test_what_is_right_passes(chat):
    assert chat_checks.check(chat) is None


@pytest.mark.parametrize(
    ("chat", "says"),
    [
        (request(max_tokens=3, max_new_tokens=4), "options.max_tokens: is another name for max_new_tokens"),
        (request(tools=[{"type": "retrieval"}]), 'tools[0].type: must be "function"'),
        (request(tools=[TOOL, {"type": "function"}]), "tools[1].function: must be an object"),
        (request(tools=[{"type": "function", "function": {"name": ""}}]), "tools[0].function.name: must be a string"),
        (
            request(tools=[{"type": "function", "function": {"name": "f", "parameters": "x"}}]),
            "tools[0].function.parameters: must be a JSON schema",
        ),
        (
            request(tools=[{"type": "function", "function": {"name": "f", "parameters": {"type": "array"}}}]),
            'tools[0].function.parameters.type: must be "object"',
        ),
        (request(calling({"name": "f"})), "messages[0].tool_calls[0].function: must be an object"),
        (request(calling({"function": {}})), "messages[0].tool_calls[0].function.name: must be a string"),
        (request(function("[1]")), "messages[0].tool_calls[0].function.arguments: must be an object, or its JSON"),
        (request(function("{")), "messages[0].tool_calls[0].function.arguments: must be an object, or its JSON"),
        (request(function(3)), "messages[0].tool_calls[0].function.arguments: must be an object, or its JSON"),
        (request(tools=(), tool_choice="none"), "tool_choice: says how to use tools, but there are no tools"),
        (
            request(tools=[with_parameters({"description": "y" * 70_000})], tool_choice="required"),
            "tools[0].function.parameters: must have at most 65536 characters",
        ),
        (
            request(tools=[with_parameters({"x-guidance": {}})], tool_choice="required"),
            "tools[0].function.parameters.x-guidance: is not for requests",
        ),
        (request(tools=[with_parameters(nested(100))]), "tools[0].function.parameters: must be at most 64 levels deep"),
        (
            request(tools=({**TOOL, "x": "y" * 70_000},), response_format={"type": "json_object"}),
            "tools: must have at most 65536 characters where they stand beside a response_format",
        ),
        (
            request(response_format={"type": "choice", "choice": ["a"]}),
            "options.response_format: goes with tools only as JSON, unless tool_choice is 'none'",
        ),
        (
            request(response_format={"type": "json_object"}, think=True),
            "options.think: an answer in a response_format begins with it",
        ),
        (request(tools=({**TOOL, "x": "y" * 70_000},), tool_choice="required"), "tools: must have at most 65536"),
    ],
)
def test_what_is_wrong_is_named(chat, says):
    with pytest.raises(errors.InvalidRequest) as refused:
        chat_checks.check(chat)
    assert refused.value.message.startswith(says)
    assert refused.value.details[0]["loc"] == says.split(":")[0]


def test_depth_is_counted_in_objects_and_lists():
    assert [chat_checks.depth(value) for value in (1, {}, [[]], {"a": [{"b": 1}], "c": {}})] == [0, 1, 2, 3]
    deep = []
    for _ in range(100_000):
        deep = [deep]
    assert chat_checks.depth(deep) == 100_001
