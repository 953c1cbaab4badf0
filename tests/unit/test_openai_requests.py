"""What a chat in OpenAI's words asks of an engine, and what it can't."""

from __future__ import annotations

import json
from typing import Any

import pytest

from modelengine import errors
from modelengine.chats import AS_MUCH_AS_FITS, MAX_SEED, ChatOptions, ChatRequest, Message, ResponseFormat
from modelengine_api import chat_checks
from modelengine_api.bodies import Reader
from modelengine_api.openai.chat import ChatCompletionRequest

USER = {"role": "user", "content": "hi"}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CLOCK = {"type": "function", "function": {"name": "clock", "description": "the time"}}
reader = Reader(ChatCompletionRequest)


def read(**given: Any) -> ChatCompletionRequest:
    return reader.parse(json.dumps({"model": "demo", "messages": [USER], **given}).encode())


def native(**given: Any) -> ChatRequest:
    (request,) = read(**given).natives()
    return request


def refusal(**given: Any) -> errors.InvalidRequest:
    with pytest.raises(errors.InvalidRequest) as failure:
        read(**given).natives()
    return failure.value


ALL_THAT_FITS = ChatOptions(max_new_tokens=AS_MUCH_AS_FITS)


def test_a_plain_chat_asks_for_what_the_context_holds_and_for_nothing_else_that_was_not_given() -> None:
    assert native() == ChatRequest("demo", (Message("user", "hi"),), options=ALL_THAT_FITS, stream=False)


def test_every_option_that_the_native_protocol_has_is_passed_on() -> None:
    given = {
        "temperature": 1.5,
        "top_p": 0.5,
        "presence_penalty": 1,
        "frequency_penalty": -1,
        "seed": 3,
        "stop": ["a", "b"],
        "logit_bias": {"5": -100},
        "max_completion_tokens": 7,
        "logprobs": True,
        "top_logprobs": 4,
        "top_k": 9,
        "min_p": 0.1,
        "repetition_penalty": 1.1,
        "reasoning_effort": "low",
    }
    assert native(**given).options == ChatOptions(
        max_new_tokens=7,
        temperature=1.5,
        top_p=0.5,
        top_k=9,
        min_p=0.1,
        repetition_penalty=1.1,
        presence_penalty=1,
        frequency_penalty=-1,
        stop=("a", "b"),
        seed=3,
        logit_bias={5: -100},
        top_logprobs=4,
        think=True,
    )
    assert list(read(**given).ignored()) == []


def test_a_null_is_as_if_it_were_not_given() -> None:
    nulls = dict.fromkeys(["temperature", "n", "stop", "tools", "tool_choice", "response_format", "user", "stream"])
    assert native(**nulls) == native()
    assert list(read(**nulls).ignored()) == []


def test_each_choice_of_a_seeded_request_has_a_seed_of_its_own() -> None:
    assert [request.options.seed for request in read(n=3, seed=MAX_SEED).natives()] == [MAX_SEED, 0, 1]
    assert [request.options.seed for request in read(n=2).natives()] == [None, None]


def test_a_seed_may_be_negative_as_openai_s_may() -> None:
    seeds = [native(seed=seed).options.seed for seed in (-1, -2, -MAX_SEED - 1)]
    assert seeds == [MAX_SEED, MAX_SEED - 1, 0]


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_minus_one_token_is_as_many_as_fit(name: str) -> None:
    assert native(**{name: -1}).options == ALL_THAT_FITS
    assert refusal(**{name: -2}).message == f"{name}: must be at least 1, got -2"


@pytest.mark.parametrize(
    ("given", "think"),
    [
        ({"reasoning_effort": "none"}, False),
        ({"reasoning_effort": "high"}, True),
        ({"chat_template_kwargs": {"enable_thinking": False}}, False),
        ({"chat_template_kwargs": {}}, None),
        ({"reasoning_effort": "none", "chat_template_kwargs": {"enable_thinking": False}}, False),
    ],
)
def test_how_much_to_think_comes_to_whether_to_think(given: Any, think: bool | None) -> None:
    assert native(**given).options.think is think


@pytest.mark.parametrize(
    "bound",
    [
        {"response_format": {"type": "json_object"}},
        {"structured_outputs": {"regex": "a"}},
        {"tools": [WEATHER], "tool_choice": "required"},
        {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "weather"}}},
    ],
)
@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"reasoning_effort": "low"}, "reasoning_effort"),
        ({"chat_template_kwargs": {"enable_thinking": True}}, "chat_template_kwargs.enable_thinking"),
    ],
)
def test_who_wants_a_format_or_a_call_gets_it_without_a_thought_and_is_told(bound: Any, given: Any, field: str) -> None:
    asked = native(**bound, **given)
    chat_checks.check(asked)
    assert asked.options.think is None
    assert list(read(**bound, **given).ignored()) == [field]
    assert native(**bound, reasoning_effort="none").options.think is False


def test_messages_keep_what_they_say_and_whose_calls_they_answer() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Rome"}'}}
    messages = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}], "name": "ada"},
        {"role": "assistant", "content": None, "tool_calls": [call], "reasoning_content": "look it up"},
        {"role": "tool", "content": "sunny", "tool_call_id": "c1"},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
        {"role": "assistant", "refusal": "never"},
        {"role": "assistant"},
    ]
    assert native(messages=messages).messages == (
        Message("system", "be brief"),
        Message("user", "one\ntwo", name="ada"),
        Message("assistant", None, reasoning_content="look it up", tool_calls=(call,)),
        Message("tool", "sunny", tool_call_id="c1"),
        Message("assistant", "no"),
        Message("assistant", "never"),
        Message("assistant", ""),
    )


@pytest.mark.parametrize(
    ("choice", "names", "word"),
    [
        (None, ["weather", "clock"], None),
        ("auto", ["weather", "clock"], "auto"),
        ("none", ["weather", "clock"], "none"),
        ("required", ["weather", "clock"], "required"),
        ({"type": "function", "function": {"name": "clock"}}, ["clock"], "required"),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [WEATHER]}},
            ["weather"],
            "auto",
        ),
    ],
)
def test_a_choice_of_certain_tools_offers_only_these(choice: Any, names: list[str], word: str | None) -> None:
    request = native(tools=[WEATHER, CLOCK], tool_choice=choice, parallel_tool_calls=False)
    assert [tool["function"]["name"] for tool in request.tools or ()] == names
    assert (request.tool_choice, request.parallel_tool_calls) == (word, False)


def test_a_tool_reaches_the_model_as_it_was_given() -> None:
    assert native(tools=[WEATHER, CLOCK]).tools == (WEATHER, CLOCK)


@pytest.mark.parametrize(
    ("given", "form"),
    [
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": {"type": "json_object"}}, ResponseFormat("json_object")),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": {}}}},
            ResponseFormat("json_schema", json_schema={}),
        ),
        ({"structured_outputs": {"regex": "a+"}}, ResponseFormat("regex", regex="a+")),
        ({"structured_outputs": {"choice": ["a", "b"]}}, ResponseFormat("choice", choice=("a", "b"))),
        ({"structured_outputs": {"grammar": 'start: "a"'}}, ResponseFormat("grammar", grammar='start: "a"')),
        ({"structured_outputs": {"json": {"type": "object"}}}, ResponseFormat("json_schema", {"type": "object"})),
        ({"structured_outputs": {"json_object": True}}, ResponseFormat("json_object")),
        ({"structured_outputs": {}, "response_format": {"type": "json_object"}}, ResponseFormat("json_object")),
    ],
)
def test_what_the_answer_must_look_like_is_passed_on(given: Any, form: ResponseFormat | None) -> None:
    assert native(**given).options.response_format == form


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"temperature": 2.5}, "temperature: must be at most 2, got 2.5"),
        ({"temperature": float("nan")}, "temperature: must be at most 2, got nan"),
        ({"n": 10**9}, "n: must be at most 8, got 1000000000"),
        ({"n": 0}, "n: must be at least 1, got 0"),
        ({"top_logprobs": 21, "logprobs": True}, "top_logprobs: must be at most 20, got 21"),
        ({"top_logprobs": 2}, "top_logprobs: is only allowed where logprobs is true"),
        ({"max_tokens": 0}, "max_tokens: must be at least 1, got 0"),
        (
            {"max_tokens": 1, "max_completion_tokens": 2},
            "max_tokens: is the old name of max_completion_tokens, but 1 and 2 were given",
        ),
        ({"logit_bias": {"a": 1}}, 'logit_bias.a: must be a whole number, got "a"'),
        ({"stop": ["x"] * 17}, "stop: must have at most 16 items, got 17"),
        ({"messages": []}, "messages: must have at least 1 item(s), got 0"),
        ({"messages": [5]}, "messages[0]: must be an object, got 5"),
        ({"messages": [{"role": "user"}]}, "messages[0].content: is required"),
        ({"messages": [{"role": "tool", "content": ""}]}, "messages[0].tool_call_id: is required where role is 'tool'"),
        (
            {"messages": [{"role": "function", "content": ""}]},
            "messages[0].role: must be 'system', 'developer', 'user', 'assistant' or 'tool', got \"function\"",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages[0].content[0].type: images are not taken, only text; must be 'text', got 'image_url'",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text: is required"),
        (
            {"messages": [{"role": "assistant", "function_call": {"name": "f"}}]},
            "messages[0].function_call: was given up by OpenAI; use tool_calls",
        ),
        ({"functions": []}, "functions: was given up by OpenAI; use tools"),
        ({"function_call": "auto"}, "function_call: was given up by OpenAI; use tool_choice"),
        ({"modalities": ["text", "audio"]}, "modalities: must be ['text']: models here answer in text only"),
        ({"stream_options": {"include_usage": True}}, "stream_options: is only allowed where stream is true"),
        ({"tools": [{"type": "function"}]}, "tools[0].function: is required"),
        (
            {"tools": [{"type": "web_search"}]},
            "tools[0].type: must be 'function', got 'web_search': only functions of yours can be called",
        ),
        ({"tool_choice": "required"}, "tool_choice: asks for a call, but there are no tools"),
        (
            {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "x"}}},
            "tool_choice: names 'x', which is not one of tools (weather)",
        ),
        (
            {"tools": [WEATHER], "tool_choice": "any"},
            "tool_choice: must be 'auto', 'none', 'required', or an object that names a function",
        ),
        (
            {"tools": [WEATHER], "tool_choice": {"type": "allowed_tools", "allowed_tools": 5}},
            "tool_choice: allowed_tools must have a mode, 'auto' or 'required', and a list of tools",
        ),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema: is required"),
        (
            {"response_format": {"type": "xml"}},
            "response_format.type: must be 'text', 'json_object' or 'json_schema', got \"xml\"",
        ),
        (
            {"structured_outputs": {"regex": "a", "choice": ["b"]}},
            "structured_outputs: must have one of json, regex, choice, grammar and json_object, got several",
        ),
        (
            {"structured_outputs": {"regex": "a"}, "response_format": {"type": "json_object"}},
            "structured_outputs: is only allowed where response_format asks for nothing",
        ),
        (
            {"reasoning_effort": "none", "chat_template_kwargs": {"enable_thinking": True}},
            "reasoning_effort: 'none' contradicts chat_template_kwargs",
        ),
    ],
)
def test_what_can_not_be_done_is_refused_with_the_field_and_what_is_allowed(given: Any, sentence: str) -> None:
    failure = refusal(**given)
    assert failure.message == sentence
    assert failure.details[0]["loc"] == sentence.partition(":")[0]


def test_fields_without_effect_are_found_at_every_depth() -> None:
    asked = read(
        user="u",
        store=True,
        messages=[{**USER, "cache_control": {}}, {"role": "user", "content": [{"type": "text", "text": "", "x": 1}]}],
        tools=[{**WEATHER, "y": 1}],
        stream=True,
        stream_options={"include_obfuscation": False},
        chat_template_kwargs={"z": 1},
    )
    assert sorted(asked.ignored()) == [
        "chat_template_kwargs.z",
        "messages.cache_control",
        "messages.content.x",
        "store",
        "stream_options.include_obfuscation",
        "tools.y",
        "user",
    ]
    assert list(read(store=False).ignored()) == []
