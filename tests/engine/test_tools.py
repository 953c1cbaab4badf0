"""Tools, with the demo model and the three that it was trained on: from the question to the call, and to the answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from demo.tasks import tools

from demo_backend import asking, backend, streamed
from modelengine_runtime.app import EngineBackend

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
