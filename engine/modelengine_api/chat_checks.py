"""What types and bounds can't say of a ChatRequest: which fields go together, and the forms inside of plain objects.

Every door asks before a request goes on, and the engine once more, because not all of them are ours. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from modelengine.chats import MAX_GRAMMAR_CHARACTERS, ChatRequest, Message, ResponseFormat
from modelengine_api.invalid import refused

# The field that each type of format needs; the others need none.
SHAPES: Mapping[str, str] = {"json_schema": "json_schema", "regex": "regex", "choice": "choice", "grammar": "grammar"}
MAX_SCHEMA_DEPTH = 64
Fault = tuple[str, str]


def check(chat: ChatRequest) -> None:
    """Raises InvalidRequest for the first thing that is wrong, naming the field and what is allowed."""
    for where, rule in _faults(chat):
        raise refused(where, rule)


def _faults(chat: ChatRequest) -> Iterator[Fault]:
    yield from _limits(chat)
    for i, message in enumerate(chat.messages):
        yield from _calls(f"messages[{i}].tool_calls", message)
    yield from _tools(chat.tools or ())
    yield from _choice(chat)
    shape = chat.options.response_format
    if shape is not None:
        yield from _shape(shape)
        yield from _beside(chat, shape)


def _limits(chat: ChatRequest) -> Iterator[Fault]:
    most, same = chat.options.max_new_tokens, chat.options.max_tokens
    if most is not None and same is not None and most != same:
        yield "options.max_tokens", f"is another name for max_new_tokens, but {same} and {most} were given"


def _calls(where: str, message: Message) -> Iterator[Fault]:
    for i, call in enumerate(message.tool_calls or ()):
        function = call.get("function")
        yield from _function(f"{where}[{i}].function", function)
        arguments = function.get("arguments", {}) if isinstance(function, Mapping) else {}
        if not isinstance(arguments, Mapping) and not _is_object(arguments):
            yield f"{where}[{i}].function.arguments", "must be an object, or its JSON"


def _tools(tools: Sequence[Mapping[str, Any]]) -> Iterator[Fault]:
    for i, tool in enumerate(tools):
        if tool.get("type") != "function":
            yield f"tools[{i}].type", 'must be "function"'
        function = tool.get("function")
        yield from _function(f"tools[{i}].function", function)
        parameters = function.get("parameters") if isinstance(function, Mapping) else None
        if parameters is not None and not isinstance(parameters, Mapping):
            yield f"tools[{i}].function.parameters", "must be a JSON schema"
        elif parameters:
            yield from _schema(f"tools[{i}].function.parameters", parameters)
            if parameters.get("type", "object") != "object":
                yield f"tools[{i}].function.parameters.type", 'must be "object"'


def _function(where: str, function: Any) -> Iterator[Fault]:
    if not isinstance(function, Mapping):
        yield where, "must be an object"
    elif not isinstance(function.get("name"), str) or not function["name"]:
        yield f"{where}.name", "must be a string of at least 1 character"


def _choice(chat: ChatRequest) -> Iterator[Fault]:
    for name in ("tool_choice", "parallel_tool_calls"):
        if getattr(chat, name) is not None and not chat.tools:
            yield name, "says how to use tools, but there are no tools"
    if chat.tool_choice != "required":
        return
    if chat.options.think:
        yield "options.think", "an answer that must call a tool begins with the call, and is not thought about"
    size = len(json.dumps(chat.tools, ensure_ascii=False))
    if size > MAX_GRAMMAR_CHARACTERS:
        yield "tools", f"must have at most {MAX_GRAMMAR_CHARACTERS} characters where one must be called, got {size}"


def _shape(shape: ResponseFormat) -> Iterator[Fault]:
    needed = SHAPES.get(shape.type)
    for name in SHAPES:
        where, given = f"options.response_format.{name}", getattr(shape, name)
        if given is None and name == needed:
            yield where, f"is required where the type is {shape.type!r}"
        if given is not None and name != needed:
            yield where, f"does not go with the type {shape.type!r}"
    if shape.json_schema is not None:
        yield from _schema("options.response_format.json_schema", shape.json_schema)


def _schema(where: str, schema: Mapping[str, Any]) -> Iterator[Fault]:
    if depth(schema) > MAX_SCHEMA_DEPTH:
        yield where, f"must be at most {MAX_SCHEMA_DEPTH} levels deep"
        return
    size = len(json.dumps(schema, ensure_ascii=False))
    if size > MAX_GRAMMAR_CHARACTERS:
        yield where, f"must have at most {MAX_GRAMMAR_CHARACTERS} characters, got {size}"
    if "x-guidance" in schema:
        yield f"{where}.x-guidance", "is not for requests"


def _beside(chat: ChatRequest, shape: ResponseFormat) -> Iterator[Fault]:
    if shape.type == "text":
        return
    if chat.tools and chat.tool_choice != "none":
        yield "options.response_format", "does not go with tools, unless tool_choice is 'none'"
    if chat.options.think:
        yield "options.think", "an answer in a response_format begins with it, and is not thought about"


def depth(value: Any) -> int:
    """How deep objects and lists stand in each other; without recursion, for whom it is asked to protect."""
    levels, here = 0, [value]
    while here := [item for item in here if isinstance(item, Mapping | list)]:
        levels += 1
        here = [inner for item in here for inner in (item.values() if isinstance(item, Mapping) else item)]
    return levels


def _is_object(text: Any) -> bool:
    """Whether it is the JSON of an object; nothing at all counts as one without fields."""
    try:
        return isinstance(text, str) and (not text.strip() or isinstance(json.loads(text), dict))
    except (ValueError, RecursionError):
        return False
