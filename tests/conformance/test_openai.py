"""The `openai` package against a live front door and engine: unchanged, and with its own types as the judge."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from openai.types import Completion, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response
from pydantic import BaseModel

from callers import ask, until
from openai_types import EVENTS, typed

QUESTION = "What is 12 + 30?"
ANSWER = "12 + 30 = 42"
MESSAGES: Any = [{"role": "user", "content": QUESTION}]
GREEDY: Any = {"model": "demo", "messages": MESSAGES, "temperature": 0, "max_tokens": 40}
# Long enough to be in the middle of when somebody leaves.
LONG: Any = {"model": "demo", "messages": [{"role": "user", "content": "Count from 1 to 300."}], "max_tokens": 900}
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Gets the weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
FLAT_WEATHER: Any = {"type": "function", **WEATHER["function"]}


@pytest.fixture
def client(front_door_address: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"http://{front_door_address}/v1", api_key="none", max_retries=0) as client:
        yield client


def running(address: str) -> int:
    count: int = ask(address, "/engine/info", {"model": "demo"}).msg["load"]["running"]
    return count


def chatted(client: openai.OpenAI, **given: Any) -> ChatCompletion:
    """A whole chat, judged by the package's types."""
    raw = client.chat.completions.with_raw_response.create(**{**GREEDY, **given})
    return typed(ChatCompletion, raw.text)


def streamed(client: openai.OpenAI, **given: Any) -> list[ChatCompletionChunk]:
    """The chunks of a chat, judged by the package's types."""
    with client.chat.completions.create(**{**GREEDY, **given}, stream=True) as stream:
        return [typed(ChatCompletionChunk, chunk.to_json()) for chunk in stream]


def text_of(chunks: list[ChatCompletionChunk], index: int = 0) -> str:
    return "".join(c.delta.content or "" for chunk in chunks for c in chunk.choices if c.index == index)


def test_models_are_listed_and_retrieved(client: openai.OpenAI) -> None:
    [model] = [typed(Model, model.to_json()) for model in client.models.list()]
    assert model.id == "demo"
    assert client.models.retrieve("demo") == model


def test_a_chat_and_its_stream_say_the_same(client: openai.OpenAI) -> None:
    whole = chatted(client)
    assert (whole.choices[0].message.content, whole.choices[0].finish_reason) == (ANSWER, "stop")
    chunks = streamed(client, stream_options={"include_usage": True})
    assert text_of(chunks) == ANSWER
    assert len(chunks) > 4
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert whole.usage is not None
    assert chunks[-1].usage is not None
    for counted in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert getattr(chunks[-1].usage, counted) == getattr(whole.usage, counted) > 0


def test_the_package_s_own_accumulator_ends_with_the_whole_answer(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(**GREEDY) as stream:
        kinds = [event.type for event in stream]
        whole = stream.get_final_completion()
    assert whole.choices[0].message.content == ANSWER
    assert {"chunk", "content.delta", "content.done"} <= set(kinds)


def test_a_limit_cuts_and_a_stop_string_stops(client: openai.OpenAI) -> None:
    for limit in ("max_tokens", "max_completion_tokens"):
        cut = chatted(client, **{"max_tokens": None, limit: 2})
        assert cut.choices[0].finish_reason == "length"
        assert cut.usage is not None
        assert cut.usage.completion_tokens == 2
    stopped = chatted(client, stop=["zzz", " ="])
    assert (stopped.choices[0].message.content, stopped.choices[0].finish_reason) == ("12 + 30", "stop")


def test_a_seed_makes_each_of_several_choices_repeatable(client: openai.OpenAI) -> None:
    wild: Any = {"n": 3, "seed": 5, "temperature": 2, "top_p": 1, "extra_body": {"top_k": 0}}
    first, second = (chatted(client, **wild) for _ in range(2))
    texts = [choice.message.content for choice in first.choices]
    assert texts == [choice.message.content for choice in second.choices]
    assert len(set(texts)) > 1
    chunks = streamed(client, **wild)
    assert [text_of(chunks, i) for i in range(3)] == texts
    alone = chatted(client, **{**wild, "n": 1, "seed": 6})
    assert alone.choices[0].message.content == texts[1]


def test_a_conversation_goes_on_after_parts_of_text_and_a_developer_s_word(client: openai.OpenAI) -> None:
    said: Any = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "hi"}]},
        {"role": "assistant", "content": "Hello!"},
        *MESSAGES,
    ]
    assert chatted(client, messages=said).choices[0].message.content == ANSWER


def test_likelihoods_come_with_every_token_whole_and_streamed(client: openai.OpenAI) -> None:
    whole = chatted(client, logprobs=True, top_logprobs=3)
    assert whole.choices[0].logprobs is not None
    tokens = whole.choices[0].logprobs.content or []
    assert whole.usage is not None
    assert len(tokens) == whole.usage.completion_tokens
    assert "".join(token.token for token in tokens) == ANSWER
    for token in tokens:
        assert len(token.top_logprobs) == 3
        # Greedy takes the likeliest.
        assert token.logprob == token.top_logprobs[0].logprob <= 0
        assert [top.logprob for top in token.top_logprobs] == sorted(
            (t.logprob for t in token.top_logprobs), reverse=True
        )
    came = [
        token
        for chunk in streamed(client, logprobs=True, top_logprobs=3)
        for choice in chunk.choices
        if choice.logprobs is not None
        for token in choice.logprobs.content or []
    ]
    assert [token.token for token in came] == [token.token for token in tokens]


def test_a_bias_keeps_a_token_out(client: openai.OpenAI, front_door_address: str) -> None:
    native = {"model": "demo", "messages": MESSAGES, "options": {"temperature": 0}, "stream": False}
    first = ask(front_door_address, "/engine/inference", native).msg["token_ids"][0]
    text = chatted(client, logit_bias={str(first): -100}).choices[0].message.content
    assert text is not None
    assert not text.startswith("1")


def test_a_tool_is_called_and_its_answer_understood(client: openai.OpenAI) -> None:
    asked: Any = {"messages": [{"role": "user", "content": "What is the weather in Paris?"}], "tools": [WEATHER]}
    whole = chatted(client, **asked)
    assert whole.choices[0].finish_reason == "tool_calls"
    [call] = whole.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"city": "Paris"})
    reply = {"role": "tool", "tool_call_id": call.id, "content": '{"weather": "sunny", "temperature": 21}'}
    said = whole.choices[0].message.to_dict()
    end = chatted(client, messages=[*asked["messages"], said, reply], tools=[WEATHER])
    assert end.choices[0].message.content == "It is sunny in Paris, 21 degrees."
    with client.chat.completions.stream(**{**GREEDY, **asked}) as stream:
        [came] = stream.get_final_completion().choices[0].message.tool_calls or []
    assert (came.function.name, json.loads(came.function.arguments)) == ("get_weather", {"city": "Paris"})


def test_a_choice_makes_the_model_call_or_not(client: openai.OpenAI) -> None:
    named: Any = {"type": "function", "function": {"name": "get_weather"}}
    for choice in ("required", named):
        forced = chatted(client, tools=[WEATHER], tool_choice=choice, max_tokens=100)
        assert [call.type for call in forced.choices[0].message.tool_calls or []] == ["function"]
    never = chatted(client, tools=[WEATHER], tool_choice="none", messages=[{"role": "user", "content": "hi"}])
    assert never.choices[0].message.tool_calls is None


class Sum(BaseModel):
    left: int
    right: int
    total: int


def test_an_answer_follows_its_schema(client: openai.OpenAI) -> None:
    parsed = client.chat.completions.parse(**{**GREEDY, "max_tokens": 200}, response_format=Sum)
    assert isinstance(parsed.choices[0].message.parsed, Sum)
    told: Any = [{"role": "user", "content": 'Repeat after me: {"a": 1}'}]
    anything = chatted(client, messages=told, response_format={"type": "json_object"}, max_tokens=200)
    assert isinstance(json.loads(anything.choices[0].message.content or ""), dict)
    chosen = chatted(client, extra_body={"structured_outputs": {"choice": ["red", "blue"]}})
    assert chosen.choices[0].message.content in ("red", "blue")


def test_a_model_that_does_not_think_may_be_asked_not_to(client: openai.OpenAI) -> None:
    assert chatted(client, reasoning_effort="none").choices[0].message.content == ANSWER


@pytest.mark.parametrize(
    ("call", "kind", "code", "param"),
    [
        (lambda c: c.models.retrieve("nobody"), openai.NotFoundError, "model_not_found", "model"),
        (
            lambda c: c.chat.completions.create(**{**GREEDY, "model": "dem"}),
            openai.NotFoundError,
            "model_not_found",
            "model",
        ),
        (
            lambda c: c.chat.completions.create(**{**GREEDY, "model": "dem"}, stream=True),
            openai.NotFoundError,
            "model_not_found",
            "model",
        ),
        (
            lambda c: c.chat.completions.create(**{**GREEDY, "temperature": 3}),
            openai.BadRequestError,
            "invalid_value",
            "temperature",
        ),
        (
            lambda c: c.chat.completions.create(model="demo", messages=[]),
            openai.BadRequestError,
            "invalid_value",
            "messages",
        ),
        (
            lambda c: c.chat.completions.create(model="demo", messages=[{"role": "user", "content": "x " * 3000}]),
            openai.BadRequestError,
            "context_length_exceeded",
            "messages",
        ),
        (
            lambda c: c.completions.create(model="demo", prompt=[1, 2]),
            openai.BadRequestError,
            "invalid_value",
            "prompt[0]",
        ),
        (
            lambda c: c.responses.create(model="demo", input="hi", previous_response_id="resp_1"),
            openai.BadRequestError,
            "invalid_value",
            "previous_response_id",
        ),
        (lambda c: c.responses.retrieve("resp_1"), openai.NotFoundError, "unknown_url", None),
        (lambda c: c.files.list(), openai.NotFoundError, "unknown_url", None),
    ],
)
def test_a_failure_is_the_package_s_own_error(
    client: openai.OpenAI,
    call: Callable[[openai.OpenAI], Any],
    kind: type[openai.APIStatusError],
    code: str,
    param: Any,
) -> None:
    with pytest.raises(kind) as failure:
        call(client)
    assert (failure.value.code, failure.value.param) == (code, param)
    assert failure.value.type == "invalid_request_error"
    assert failure.value.message


def test_who_stops_reading_frees_the_slot(client: openai.OpenAI, front_door_address: str) -> None:
    with client.chat.completions.create(**LONG, n=2, stream=True) as stream:
        next(iter(stream))
        # The second answer of the two may begin a moment after the first.
        assert until(lambda: running(front_door_address) == 2)
    assert until(lambda: running(front_door_address) == 0)


def test_a_completion_is_what_the_assistant_answers(client: openai.OpenAI) -> None:
    raw = client.completions.with_raw_response.create(
        model="demo", prompt=[QUESTION, QUESTION], temperature=0, echo=True
    )
    whole = typed(Completion, raw.text)
    assert [choice.text for choice in whole.choices] == [QUESTION + ANSWER] * 2
    stream = client.completions.create(model="demo", prompt=QUESTION, temperature=0, stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == ANSWER


def test_a_response_and_its_stream_say_the_same(client: openai.OpenAI) -> None:
    raw = client.responses.with_raw_response.create(model="demo", input=QUESTION, temperature=0)
    whole = typed(Response, raw.text)
    assert (whole.output_text, whole.status) == (ANSWER, "completed")
    events = [
        typed(EVENTS[event.type], event.to_json())
        for event in client.responses.create(model="demo", input=QUESTION, temperature=0, stream=True)
    ]
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == ANSWER
    assert [event.sequence_number for event in events] == list(range(len(events)))
    with client.responses.stream(model="demo", input=QUESTION, temperature=0) as stream:
        for _ in stream:
            pass
        assert stream.get_final_response().output_text == ANSWER


def test_a_response_that_is_cut_is_incomplete(client: openai.OpenAI) -> None:
    raw = client.responses.with_raw_response.create(model="demo", input=QUESTION, max_output_tokens=2)
    cut = typed(Response, raw.text)
    assert cut.status == "incomplete"
    assert cut.incomplete_details is not None
    assert cut.incomplete_details.reason == "max_output_tokens"


def test_a_response_calls_a_tool_and_goes_on_with_its_own_items(client: openai.OpenAI) -> None:
    asked: Any = [{"role": "user", "content": "What is the weather in Paris?"}]
    first = client.responses.create(model="demo", input=asked, tools=[FLAT_WEATHER], temperature=0)
    [call] = [item for item in first.output if item.type == "function_call"]
    assert (call.name, json.loads(call.arguments)) == ("get_weather", {"city": "Paris"})
    reply = {
        "type": "function_call_output",
        "call_id": call.call_id,
        "output": '{"weather": "sunny", "temperature": 21}',
    }
    said = [item.to_dict() for item in first.output]
    end = client.responses.create(model="demo", input=[*asked, *said, reply], tools=[FLAT_WEATHER], temperature=0)
    assert end.output_text == "It is sunny in Paris, 21 degrees."


def test_a_response_follows_its_schema(client: openai.OpenAI) -> None:
    parsed = client.responses.parse(model="demo", input=QUESTION, text_format=Sum, temperature=0, max_output_tokens=200)
    assert isinstance(parsed.output_parsed, Sum)


def test_what_has_no_effect_is_named_in_a_header(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(**GREEDY, user="ada", store=True, metadata={"a": "b"})
    assert raw.headers["x-modelengine-ignored"] == "metadata, store, user"
