"""LangChain's OpenAI integration against a live front door and engine, unchanged."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from langchain_core.exceptions import ContextOverflowError
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI
from pydantic import BaseModel, ConfigDict

QUESTION = "What is 12 + 30?"
ANSWER = "12 + 30 = 42"


def model_at(address: str, name: str = "demo", **given: Any) -> ChatOpenAI:
    return ChatOpenAI(
        model=name, base_url=f"http://{address}/v1", api_key="none", temperature=0, max_retries=0, **given
    )


@pytest.fixture
def model(front_door_address: str) -> ChatOpenAI:
    return model_at(front_door_address, max_tokens=60)


@tool
def get_weather(city: str) -> str:
    """Gets the weather in a city."""
    return json.dumps({"weather": "sunny", "temperature": 21})


class Sum(BaseModel):
    """A sum and what it comes to."""

    # Without it a schema allows more properties, and a toy makes some up for ever.
    model_config = ConfigDict(extra="forbid")

    left: int
    right: int
    total: int


def test_invoke_answers_and_counts(model: ChatOpenAI) -> None:
    answer = model.invoke([SystemMessage("Be brief."), HumanMessage(QUESTION)])
    assert isinstance(answer, AIMessage)
    assert answer.text == ANSWER
    assert answer.response_metadata["finish_reason"] == "stop"
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["output_tokens"] > 0


def test_the_stream_says_what_invoke_says(model: ChatOpenAI) -> None:
    parts = list(model.stream(QUESTION, stream_usage=True))
    assert len(parts) > 2
    assert "".join(part.text for part in parts) == ANSWER
    whole: Any = parts[0]
    for part in parts[1:]:
        whole += part
    assert isinstance(whole, AIMessageChunk)
    assert whole.usage_metadata is not None
    assert whole.usage_metadata["output_tokens"] > 0


async def test_the_asynchronous_calls_do_the_same(model: ChatOpenAI) -> None:
    assert (await model.ainvoke(QUESTION)).text == ANSWER
    assert "".join([part.text async for part in model.astream(QUESTION)]) == ANSWER


def test_a_batch_is_answered_in_its_order(model: ChatOpenAI) -> None:
    assert [answer.text for answer in model.batch([QUESTION, "What is 2 + 2?"])] == [ANSWER, "2 + 2 = 4"]


def test_a_bound_tool_is_called_and_its_answer_understood(model: ChatOpenAI) -> None:
    bound = model.bind_tools([get_weather])
    question = HumanMessage("What is the weather in Paris?")
    called = bound.invoke([question])
    [call] = called.tool_calls
    assert (call["name"], call["args"]) == ("get_weather", {"city": "Paris"})
    reply = get_weather.invoke(call)
    assert isinstance(reply, ToolMessage)
    assert bound.invoke([question, called, reply]).text == "It is sunny in Paris, 21 degrees."
    whole: Any = None
    for part in bound.stream([question]):
        whole = part if whole is None else whole + part
    assert [call["args"] for call in whole.tool_calls] == [{"city": "Paris"}]


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured_output_has_its_structure(front_door_address: str, method: Any) -> None:
    structured = model_at(front_door_address, max_tokens=200).with_structured_output(Sum, method=method)
    assert isinstance(structured.invoke(QUESTION), Sum)


def test_the_responses_api_does_the_same(front_door_address: str) -> None:
    model = model_at(front_door_address, use_responses_api=True)
    assert model.invoke(QUESTION).text == ANSWER
    assert "".join(part.text for part in model.stream(QUESTION)) == ANSWER


def test_the_old_completions_do_the_same(front_door_address: str) -> None:
    model = OpenAI(
        model="demo", base_url=f"http://{front_door_address}/v1", api_key="none", temperature=0, max_tokens=40
    )
    assert model.invoke(QUESTION) == ANSWER
    assert model.batch([QUESTION, "What is 2 + 2?"]) == [ANSWER, "2 + 2 = 4"]
    assert "".join(model.stream(QUESTION)) == ANSWER


def test_a_failure_is_the_package_s_error(front_door_address: str) -> None:
    with pytest.raises(openai.NotFoundError, match="no model"):
        model_at(front_door_address, "nobody").invoke(QUESTION)


def test_a_prompt_that_is_too_long_is_known_as_one(model: ChatOpenAI) -> None:
    with pytest.raises(ContextOverflowError):
        model.invoke("x " * 3000)
