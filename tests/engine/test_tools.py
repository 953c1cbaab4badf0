"""Tools, with the demo model and the three that it was trained on: from the question to the call, and to the answer."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from demo.tasks import tools

from demo_backend import asking, backend, streamed
from modelengine import errors
from modelengine_runtime.app import EngineBackend
from modelengine_runtime.engine import Engine

TOOLS = [tool.as_openai() for tool in tools.TOOLS.values()]
QUESTION = "What is the weather in Paris?"


@pytest.fixture(scope="module")
def demo() -> Iterator[EngineBackend]:
    with backend() as demo:
        yield demo


def joined(messages: list[dict[str, Any]]) -> dict[str, Any]:
    """What a client has that puts the parts together."""
    *parts, last = messages
    return {
        "content": "".join(part["content"] for part in parts),
        "tool_calls": [call for part in parts for call in part.get("tool_calls", ())],
        "token_ids": [token for message in messages for token in message["token_ids"]],
        "finish_reason": last["finish_reason"],
    }


def without_ids(calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in call.items() if key != "id"} for call in calls]


async def test_a_question_becomes_a_call_and_the_tool_s_reply_an_answer(demo: EngineBackend) -> None:
    answer = await demo.whole(asking(QUESTION, tools=TOOLS))
    [call] = answer["tool_calls"]
    assert call["function"]["name"] == "get_weather"
    assert json.loads(call["function"]["arguments"]) == {"city": "Paris"}
    assert (call["type"], call["index"], call["id"][:5]) == ("function", 0, "call_")
    assert (answer["finish_reason"], answer["content"]) == ("tool_calls", "")
    said = {"role": "assistant", "tool_calls": ({key: call[key] for key in ("id", "type", "function")},)}
    reply = {"role": "tool", "content": '{"weather": "sunny", "temperature": 21}', "tool_call_id": call["id"]}
    end = await demo.whole(asking(QUESTION, said, reply, tools=TOOLS))
    assert end["content"] == "It is sunny in Paris, 21 degrees."
    assert end["finish_reason"] == "stop"


async def test_the_stream_says_what_the_whole_answer_says(demo: EngineBackend) -> None:
    messages = await streamed(demo, asking(QUESTION, tools=TOOLS))
    whole = await demo.whole(asking(QUESTION, tools=TOOLS))
    came = joined(messages)
    assert without_ids(came["tool_calls"]) == without_ids(whole["tool_calls"])
    assert (came["content"], came["token_ids"]) == (whole["content"], whole["token_ids"])
    assert came["finish_reason"] == whole["finish_reason"] == "tool_calls"
    # The call comes whole, and the tokens of its text with it.
    [part, last] = messages
    assert part["index"] == 0
    assert len(part["token_ids"]) + len(last["token_ids"]) == last["response_length"]


async def test_an_answer_without_calls_is_as_without_tools(demo: EngineBackend) -> None:
    messages = await streamed(demo, asking("Count from 1 to 20."))
    assert joined(messages)["content"] == ", ".join(str(n) for n in range(1, 21))
    assert all(part["content"] and part["token_ids"] for part in messages[:-1])
    assert messages[-1]["content"] is None
    assert "tool_calls" not in await demo.whole(asking("Count from 1 to 3."))


async def test_a_call_that_is_cut_off_is_content(demo: EngineBackend) -> None:
    whole = await demo.whole(asking(QUESTION, tools=TOOLS))
    cut = await demo.whole(asking(QUESTION, tools=TOOLS, max_new_tokens=whole["response_length"] - 8))
    assert cut["finish_reason"] == "length"
    assert cut["content"].startswith('<tool_call>\n{"name": "get_weather"')
    assert "tool_calls" not in cut


async def test_an_answer_that_broke_off_goes_on_behind_every_part(demo: EngineBackend) -> None:
    for request in ({"tools": TOOLS}, {"tools": TOOLS, "stop": ["Paris"]}):
        whole = await streamed(demo, asking(QUESTION, **request))
        tokens = [token for message in whole for token in message["token_ids"]]
        for came in range(len(tokens)):
            held = await streamed(demo, asking(QUESTION, **request, resume={"token_ids": tuple(tokens[:came])}))
            # A part without tokens is the last: whoever has that one does not ask.
            parts = [message for message in whole[:-1] if message["token_ids"]]
            came_before = [part for part in parts if part["index"] + len(part["token_ids"]) <= came]
            both = joined([*came_before, *held])
            assert without_ids(both["tool_calls"]) == without_ids(joined(whole)["tool_calls"])
            assert both["content"] == joined(whole)["content"]
            assert both["finish_reason"] == joined(whole)["finish_reason"]


async def test_a_tool_that_must_be_called_is_called_with_arguments_that_its_schema_allows(demo: EngineBackend) -> None:
    schema = {
        "type": "object",
        "properties": {"who": {"$ref": "#/$defs/name"}, "n": {"type": "integer", "minimum": 3, "maximum": 5}},
        "required": ["who", "n"],
        "additionalProperties": False,
        "$defs": {"name": {"enum": ["Anna", "中", 'x"y']}},
    }
    odd = {"type": "function", "function": {"name": 'odd "name"', "parameters": schema}}
    schemas = {tool["function"]["name"]: tool["function"]["parameters"] for tool in [*TOOLS, odd]}
    names = set()
    for seed in range(24):
        offered = [odd] if seed < 8 else [*TOOLS, odd]
        answer = await demo.whole(
            asking("Hello!", tools=offered, tool_choice="required", temperature=3, seed=seed, max_new_tokens=80)
        )
        assert answer["finish_reason"] in ("tool_calls", "length")
        for call in answer.get("tool_calls", ()):
            names.add(call["function"]["name"])
            jsonschema.validate(json.loads(call["function"]["arguments"]), schemas[call["function"]["name"]])
        assert answer["finish_reason"] == "length" or answer["content"] == ""
    assert {'odd "name"', "get_time"} <= names


CITY = {
    "type": "object",
    "properties": {"city": {"enum": ["Rome", "Köln", "<tool_call>"]}, "n": {"type": "integer", "maximum": 99}},
    "required": ["city", "n"],
    "additionalProperties": False,
}
EITHER: dict[str, Any] = {"tools": TOOLS, "response_format": {"type": "json_schema", "json_schema": CITY}}


async def test_beside_a_format_a_tool_is_called_or_the_format_followed(demo: EngineBackend) -> None:
    called = await demo.whole(asking(QUESTION, **EITHER))
    assert without_ids(called["tool_calls"]) == without_ids(
        (await demo.whole(asking(QUESTION, tools=TOOLS)))["tool_calls"]
    )
    assert (called["finish_reason"], called["content"]) == ("tool_calls", "")
    schemas = {tool["function"]["name"]: tool["function"]["parameters"] for tool in TOOLS}
    kinds = set()
    for seed in range(24):
        said = asking("Hello!", **EITHER, temperature=3, seed=seed, max_new_tokens=80)
        answer = await demo.whole(said)
        if answer["finish_reason"] == "stop":
            assert "tool_calls" not in answer
            jsonschema.validate(json.loads(answer["content"]), CITY)
        for call in answer.get("tool_calls", ()):
            jsonschema.validate(json.loads(call["function"]["arguments"]), schemas[call["function"]["name"]])
            assert answer["finish_reason"] == "length" or answer["content"] == ""
        kinds.add(answer["finish_reason"])
        came = joined(await streamed(demo, said))
        assert without_ids(came["tool_calls"]) == without_ids(answer.get("tool_calls", []))
        assert (came["content"], came["finish_reason"]) == (answer["content"], answer["finish_reason"])
    assert {"tool_calls", "stop"} <= kinds


async def test_a_call_that_only_stands_in_a_text_of_the_format_is_none(demo: EngineBackend) -> None:
    text = '<tool_call>{"name": "get_time", "arguments": {}}</tool_call>'
    shape = {"type": "json_schema", "json_schema": {"const": [text]}}
    # The model would call; it must not, from its first token on.
    never = dict.fromkeys((await demo.whole(asking(QUESTION, tools=TOOLS)))["token_ids"][:1], -100.0)
    answer = await demo.whole(
        asking(QUESTION, tools=TOOLS, response_format=shape, logit_bias=never, max_new_tokens=200)
    )
    assert (answer["finish_reason"], json.loads(answer["content"])) == ("stop", [text])
    assert "tool_calls" not in answer


@pytest.mark.parametrize("more", [{}, {"parallel_tool_calls": False}])
async def test_an_answer_of_either_kind_that_broke_off_goes_on(demo: EngineBackend, more: dict[str, Any]) -> None:
    for question in (QUESTION, "Hello!"):
        request = asking(question, **EITHER, **more, max_new_tokens=80)
        whole = await streamed(demo, request)
        tokens = [token for message in whole for token in message["token_ids"]]
        for came in range(len(tokens)):
            resume = {"token_ids": tuple(tokens[:came])}
            held = await streamed(demo, asking(question, **EITHER, **more, max_new_tokens=80, resume=resume))
            before = [
                part for part in whole[:-1] if part["token_ids"] and part["index"] + len(part["token_ids"]) <= came
            ]
            both = joined([*before, *held])
            assert without_ids(both["tool_calls"]) == without_ids(joined(whole)["tool_calls"])
            assert both["content"] == joined(whole)["content"]


async def test_a_model_whose_calls_no_grammar_can_follow_is_not_bound_to_a_format_beside_tools(
    demo: EngineBackend,
) -> None:
    engine = demo._lifecycle.engine
    assert isinstance(engine, Engine)
    whole = engine.model
    engine.model = dataclasses.replace(whole, parsers=None)
    try:
        with pytest.raises(
            errors.InvalidRequest, match=r"options\.response_format: 'demo' can't be made to follow it or"
        ):
            await demo.whole(asking(QUESTION, **EITHER))
    finally:
        engine.model = whole


async def test_a_format_does_not_bind_an_answer_that_must_call(demo: EngineBackend) -> None:
    bound = await demo.whole(asking(QUESTION, **EITHER, tool_choice="required"))
    free = await demo.whole(asking(QUESTION, tools=TOOLS, tool_choice="required"))
    assert without_ids(bound["tool_calls"]) == without_ids(free["tool_calls"])


async def test_an_answer_with_one_call_ends_behind_it_and_so_does_what_goes_on_with_it(demo: EngineBackend) -> None:
    # A model that does not find its end calls again and again.
    endless = {"tools": TOOLS, "logit_bias": {2: -100.0}, "max_new_tokens": 100}
    aborted = demo._lifecycle.engine.loop.counters.aborted
    several = await demo.whole(asking(QUESTION, **endless))
    assert several["response_length"] == 100
    messages = await streamed(demo, asking(QUESTION, **endless, parallel_tool_calls=False))
    assert without_ids(joined(messages)["tool_calls"]) == without_ids(several["tool_calls"])[:1]
    assert messages[-1]["finish_reason"] == "tool_calls"
    whole = await demo.whole(asking(QUESTION, **endless, parallel_tool_calls=False))
    assert whole["token_ids"] == joined(messages)["token_ids"]
    assert whole["response_length"] == len(whole["token_ids"]) < 40
    came = {"token_ids": tuple(whole["token_ids"])}
    [end] = await streamed(demo, asking(QUESTION, **endless, parallel_tool_calls=False, resume=came))
    assert (end["finish_reason"], end["response_length"]) == ("tool_calls", whole["response_length"])
    loop = demo._lifecycle.engine.loop
    while loop.running + loop.waiting:
        await asyncio.sleep(0.01)
    # They were not given up by who asked.
    assert loop.counters.aborted == aborted


async def test_tools_that_may_not_be_called_are_not_shown(demo: EngineBackend) -> None:
    with_none = await demo.whole(asking(QUESTION, tools=TOOLS, tool_choice="none"))
    without = await demo.whole(asking(QUESTION))
    assert (with_none["content"], with_none["prompt_length"]) == (without["content"], without["prompt_length"])


@pytest.mark.parametrize("arguments", [{"city": "Rome"}, '{"city": "Rome"}'])
async def test_the_arguments_of_an_earlier_call_come_as_an_object_or_as_json(
    demo: EngineBackend, arguments: Any
) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "get_time", "arguments": arguments}}
    said = {"role": "assistant", "tool_calls": (call,)}
    reply = {"role": "tool", "content": '{"time": "12:30"}', "tool_call_id": "1"}
    answer = await demo.whole(asking("What time is it in Rome?", said, reply, tools=TOOLS))
    assert answer["content"] == "It is 12:30 in Rome."
    assert call["function"]["arguments"] == arguments


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"tool_choice": "auto"}, "tool_choice: says how to use tools, but there are no tools"),
        ({"tools": [], "tool_choice": "required"}, "tool_choice: says how to use tools, but there are no tools"),
        ({"parallel_tool_calls": False}, "parallel_tool_calls: says how to use tools, but there are no tools"),
        ({"tools": TOOLS, "tool_choice": "required", "think": True}, "options.think: an answer that must call a tool"),
        ({"think": True}, "options.think: 'demo' has no switch for thinking"),
        (
            {
                "tools": [{"type": "function", "function": {"name": "f", "parameters": {"not": {}}}}],
                "tool_choice": "required",
            },
            'tool_choice: .*Unimplemented keys: \\["not"\\]',
        ),
    ],
)
async def test_what_can_t_be_done_is_refused(demo: EngineBackend, more: dict[str, Any], says: str) -> None:
    with pytest.raises(errors.InvalidRequest, match=says):
        await demo.whole(asking(QUESTION, **more))
