"""LangChain's Ollama integration against a live front door and engine, unchanged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_ollama import ChatOllama
from langchain_ollama._utils import validate_model
from ollama import ResponseError

QUESTION = "What is 12 + 30?"


@contextmanager
def connected(address: str, name: str) -> Iterator[ChatOllama]:
    """The integration has no way of its own to close its connections."""
    model = ChatOllama(model=name, base_url=f"http://{address}", temperature=0, num_predict=60, num_ctx=512)
    yield model
    model._client.close()


@pytest.fixture
def model(front_door_address: str) -> Iterator[ChatOllama]:
    with connected(front_door_address, "demo") as model:
        yield model


def test_invoke_answers_and_counts(model: ChatOllama) -> None:
    answer = model.invoke([SystemMessage("Be brief."), HumanMessage(QUESTION)])
    assert isinstance(answer, AIMessage)
    assert answer.text
    assert answer.response_metadata["done_reason"] == "stop"
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["output_tokens"] > 0


def test_the_stream_says_what_invoke_says(model: ChatOllama) -> None:
    parts = list(model.stream(QUESTION))
    assert len(parts) > 2
    assert "".join(part.text for part in parts) == model.invoke(QUESTION).text


async def test_the_asynchronous_calls_do_the_same(model: ChatOllama) -> None:
    whole = (await model.ainvoke(QUESTION)).text
    assert "".join([part.text async for part in model.astream(QUESTION)]) == whole
    await model._async_client.close()


def test_a_conversation_goes_on(model: ChatOllama) -> None:
    answer = model.invoke([HumanMessage("hi"), AIMessage("Hello!"), HumanMessage(QUESTION)])
    assert answer.text


def test_a_failure_is_the_package_s_error(front_door_address: str) -> None:
    with connected(front_door_address, "nobody") as nobody, pytest.raises(ResponseError, match="not found"):
        nobody.invoke(QUESTION)


def test_the_model_is_found_in_the_list_of_models(model: ChatOllama) -> None:
    validate_model(model._client, "demo")
    with pytest.raises(ValueError, match="not found in Ollama"):
        validate_model(model._client, "nobody")
