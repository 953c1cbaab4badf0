"""`format` through the `ollama` package and LangChain, with the demo model: what comes is what the schema allows."""

from __future__ import annotations

import json
from collections.abc import Iterator

import jsonschema
import ollama
import pytest
from langchain_ollama import ChatOllama
from pydantic import BaseModel, ConfigDict, Field

QUESTION = [{"role": "user", "content": "Where is Paris? Answer in JSON."}]
# Wild on purpose: it is the grammar that keeps the answer valid.
WILD = {"temperature": 1.5, "seed": 5, "num_predict": 200}


class City(BaseModel):
    """A city; nothing else belongs to it, or a model that likes to talk would go on for ever."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=12)
    country: str = Field(max_length=12)
    has_river: bool


@pytest.fixture
def client(front_door_address: str) -> Iterator[ollama.Client]:
    with ollama.Client(f"http://{front_door_address}") as client:
        yield client


def test_a_schema_is_followed(client: ollama.Client) -> None:
    answer = client.chat("demo", QUESTION, format=City.model_json_schema(), options=WILD)
    assert answer.message.content is not None
    jsonschema.validate(json.loads(answer.message.content), City.model_json_schema())
    City.model_validate_json(answer.message.content)


def test_the_stream_follows_it_too(client: ollama.Client) -> None:
    parts = client.chat("demo", QUESTION, format=City.model_json_schema(), options=WILD, stream=True)
    City.model_validate_json("".join(part.message.content or "" for part in parts))


def test_generate_follows_it_too(client: ollama.Client) -> None:
    answer = client.generate("demo", QUESTION[0]["content"], format=City.model_json_schema(), options=WILD)
    City.model_validate_json(answer.response or "")


def test_json_is_an_object(client: ollama.Client) -> None:
    answer = client.chat("demo", QUESTION, format="json", options={"temperature": 0, "num_predict": 300})
    if answer.done_reason == "stop":
        assert isinstance(json.loads(answer.message.content or ""), dict)
    assert (answer.message.content or "").lstrip().startswith("{")


def test_a_schema_that_nothing_can_follow_is_refused_by_its_name(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match="format: ") as failure:
        client.chat("demo", QUESTION, format={"type": "nothing"}, options=WILD)
    assert failure.value.status_code == 400


def test_thinking_is_refused_in_the_words_that_clients_look_for(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match="does not support thinking") as failure:
        client.chat("demo", QUESTION, think=True)
    assert failure.value.status_code == 400
    assert client.chat("demo", QUESTION, think=False, options={"num_predict": 4}).done


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_langchain_has_structured_output(front_door_address: str, method: str) -> None:
    model = ChatOllama(model="demo", base_url=f"http://{front_door_address}", temperature=0, num_predict=200)
    structured = model.with_structured_output(City, method=method)
    city = structured.invoke("Where is Paris?")
    assert isinstance(city, City) or (method == "function_calling" and city is None)
    model._client.close()
