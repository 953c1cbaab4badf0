"""From a response template's marks to the grammar of an answer that must call."""

import json

import pytest

from modelengine_runtime import tool_grammar

JSON_CALLS = {
    "open_pattern": r"\s*<tool_call>",
    "close": "</tool_call>",
    "content": "json",
    "transform": {"type": "function", "function": "{content}"},
}
TOOLS = [
    {"type": "function", "function": {"name": 'say "hi"', "parameters": {"properties": {"to": {"type": "string"}}}}},
    {"type": "function", "function": {"name": "stop"}},
]


def grammar(is_one=False, otherwise=None, **changes):
    field = {key: value for key, value in {**JSON_CALLS, **changes}.items() if value is not None}
    return tool_grammar.grammar(field, TOOLS, is_one, json.dumps, otherwise)


def test_a_call_stands_between_its_marks_with_a_tool_s_name_and_arguments_of_its_schema():
    lines = grammar().splitlines()
    assert lines[0] == "start: call (NEWLINE? call)*"
    assert lines[1] == 'call: "<tool_call>" NEWLINE? function NEWLINE? "</tool_call>"'
    assert lines[2] == "function: function_0 | function_1"
    assert r'SPACE? "\"say \\\"hi\\\"\"," SPACE? "\"arguments\":" SPACE? arguments_0 "}"' in lines[5]
    name, _, schema = lines[6].partition(": %json ")
    assert name == "arguments_0"
    assert json.loads(schema)["properties"] == {"to": {"type": "string"}}
    assert json.loads(schema)["type"] == "object"


def test_one_call_is_one():
    assert grammar(is_one=True).startswith("start: call\n")


def test_other_keys_are_those_of_the_template():
    transform = {"function": {"name": "{content.tool}", "arguments": "{content.parameters}"}}
    assert r'"\"parameters\":"' in grammar(transform=transform)


@pytest.mark.parametrize(
    "changes",
    [
        {"content": "xml-inline"},
        {"content_args": {"unquoted_keys": True}},
        {"open_pattern": r"<function=(?P<name>\w+)>"},
        {"open_pattern": None, "open": ["<a>", "<b>"]},
        {"close": None},
        {"transform": {"function": {"name": "{name}", "arguments": "{content}"}}},
        {"transform": None},
    ],
)
def test_calls_that_are_no_json_between_two_texts_have_no_grammar(changes):
    assert grammar(**changes) is None


def test_what_may_be_said_otherwise_stands_beside_the_calls():
    lines = grammar(otherwise={"type": "string"}).splitlines()
    assert lines[0] == "start: call (NEWLINE? call)* | said"
    said = json.loads(lines[-1].removeprefix("said: %json "))
    assert said == {"type": "string", "x-guidance": dict(tool_grammar.JSON_STYLE)}


@pytest.mark.parametrize(("mark", "is_told"), [("<a>", True), ("[CALLS]", True), ("{", False), ('["a', False)])
def test_calls_that_begin_as_json_does_are_not_told_from_it(mark, is_told):
    assert (grammar(open_pattern=None, open=mark, otherwise={}) is not None) == is_told
    assert grammar(open_pattern=None, open=mark) is not None


def test_what_is_escaped_in_a_pattern_is_text():
    assert '"<|call|>"' in grammar(open_pattern=r"\s*<\|call\|>")
