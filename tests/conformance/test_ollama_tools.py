"""Tools through the `ollama` package and LangChain, with the demo model: from a question to the call to the answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import ollama
import pytest
from demo.tasks import tools as trained
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_ollama import ChatOllama

# In the words that the model was trained on.
QUESTION = "What is the weather in Paris?"
TOOLS: list[dict[str, Any]] = [tool.as_openai() for tool in trained.TOOLS.values()]
REPLY = '{"weather": "sunny", "temperature": 21}'
ANSWER = "It is sunny in Paris, 21 degrees."
GREEDY = {"temperature": 0, "num_predict": 60}


@pytest.fixture
def client(front_door_address: str) -> Iterator[ollama.Client]:
    with ollama.Client(f"http://{front_door_address}") as client:
        yield client


@tool
def get_weather(city: str) -> str:
    """Get the weather of a city"""
    return REPLY


@pytest.mark.parametrize("named", [True, False])
def test_a_question_becomes_a_call_and_the_reply_an_answer(client: ollama.Client, named: bool) -> None:
    messages: list[Any] = [{"role": "user", "content": QUESTION}]
    asked = client.chat("demo", messages, tools=TOOLS, options=GREEDY)
    assert asked.message.tool_calls is not None
    [call] = asked.message.tool_calls
    assert (call.function.name, call.function.arguments) == ("get_weather", {"city": "Paris"})
    assert (asked.message.content, asked.done_reason) == ("", "stop")
    reply = {"role": "tool", "content": REPLY, **({"tool_name": "get_weather"} if named else {})}
    answer = client.chat("demo", [*messages, asked.message, reply], tools=TOOLS, options=GREEDY)
    assert answer.message.content == ANSWER


def test_a_function_is_a_tool(client: ollama.Client) -> None:
    def get_weather(city: str) -> str:
        """
        Get the weather of a city

        Args:
            city: The city
        """
        return city

    asked = client.chat("demo", [{"role": "user", "content": QUESTION}], tools=[get_weather], options=GREEDY)
    assert asked.message.tool_calls is not None
    assert get_weather(**asked.message.tool_calls[0].function.arguments) == "Paris"


def test_the_stream_has_the_call_once_and_whole(client: ollama.Client) -> None:
    parts = list(client.chat("demo", [{"role": "user", "content": QUESTION}], tools=TOOLS, options=GREEDY, stream=True))
    calls = [call for part in parts for call in part.message.tool_calls or ()]
    assert [call.function.arguments for call in calls] == [{"city": "Paris"}]
    assert "".join(part.message.content or "" for part in parts) == ""
    assert (parts[-1].done, parts[-1].done_reason) == (True, "stop")


def test_langchain_binds_a_tool_and_hears_the_answer(front_door_address: str) -> None:
    model = ChatOllama(model="demo", base_url=f"http://{front_door_address}", temperature=0, num_predict=60)
    bound = model.bind_tools([get_weather])
    question = HumanMessage(QUESTION)
    asked = bound.invoke([question])
    [call] = asked.tool_calls
    assert (call["name"], call["args"]) == ("get_weather", {"city": "Paris"})
    streamed = list(bound.stream([question]))
    assert [call["args"] for part in streamed for call in part.tool_calls] == [{"city": "Paris"}]
    reply = ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"])
    assert bound.invoke([question, asked, reply]).text == ANSWER
    model._client.close()


@pytest.mark.parametrize("question", [QUESTION, "who are you?"])
def test_beside_a_format_an_answer_is_a_call_or_follows_the_format(client: ollama.Client, question: str) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "boolean"}}, "additionalProperties": False}
    messages = [{"role": "user", "content": question}]
    answer = client.chat("demo", messages, tools=TOOLS, format=schema, options=GREEDY).message
    if answer.tool_calls:
        assert (answer.content, {call.function.name for call in answer.tool_calls} <= trained.TOOLS.keys()) == (
            "",
            True,
        )
    else:
        jsonschema.validate(json.loads(answer.content or ""), schema)
