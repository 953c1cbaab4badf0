"""What Ollama's clients send, as native requests: what is honoured, what is named as ignored, what is refused."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelengine import errors, wire
from modelengine.chats import ChatOptions, ChatRequest, Message, ResponseFormat
from modelengine.protocol import to_json
from modelengine_api import ignored
from modelengine_api.bodies import Reader
from modelengine_api.ollama import calls, keep_alive, names, requests, wording
from modelengine_api.ollama.options import AS_MUCH_AS_FITS, MAX_SEED, NATIVE_NAMES

CHAT = Reader(calls.ChatCall)
GENERATE = Reader(calls.GenerateCall)
QUESTION = [{"role": "user", "content": "hi"}]


def chat_call(**fields: Any) -> calls.ChatCall:
    return CHAT.parse(json.dumps({"model": "demo", "messages": QUESTION, **fields}).encode())


def generate_call(**fields: Any) -> calls.GenerateCall:
    return GENERATE.parse(json.dumps({"model": "demo", "prompt": "hi", **fields}).encode())


def chat(**fields: Any) -> ChatRequest:
    return requests.chat(chat_call(**fields), "demo")


def refusal(**fields: Any) -> str:
    with pytest.raises(errors.InvalidRequest) as failure:
        chat(**fields)
    return failure.value.message


def ignored_names(call: calls.Call) -> list[str]:
    return sorted(requests.ignored(call))


def test_the_least_that_a_client_sends_asks_for_a_stream_of_as_much_as_fits() -> None:
    assert chat() == ChatRequest(
        "demo", (Message("user", "hi"),), options=ChatOptions(max_new_tokens=AS_MUCH_AS_FITS), stream=True
    )


def test_each_option_reaches_the_native_one_that_means_the_same() -> None:
    options = chat(
        options={
            "num_predict": 7,
            "temperature": 0.5,
            "top_k": 4,
            "top_p": 0.9,
            "min_p": 0.1,
            "seed": 3,
            "stop": ["a", "b"],
            "repeat_penalty": 1.1,
            "presence_penalty": 0.2,
            "frequency_penalty": 0.3,
        }
    ).options
    assert options == ChatOptions(
        max_new_tokens=7,
        temperature=0.5,
        top_k=4,
        top_p=0.9,
        min_p=0.1,
        seed=3,
        stop=("a", "b"),
        repetition_penalty=1.1,
        presence_penalty=0.2,
        frequency_penalty=0.3,
    )


@pytest.mark.parametrize("without_end", [-1, -2, None])
def test_an_answer_without_a_limit_goes_up_to_the_context(without_end: int | None) -> None:
    assert chat(options={"num_predict": without_end}).options.max_new_tokens == AS_MUCH_AS_FITS


def test_whole_numbers_may_be_written_as_floats_and_seeds_be_negative() -> None:
    options = chat(options={"num_predict": 128.0, "top_k": 5.0, "seed": 3.0}).options
    assert (options.max_new_tokens, options.top_k, options.seed) == (128, 5, 3)
    assert chat(options={"seed": -2}).options.seed == MAX_SEED - 1
    assert chat(options={"seed": -1.0}).options.seed is None


def test_what_ollama_takes_for_no_seed_and_for_the_likeliest_token_alone_is_taken_so_here() -> None:
    options = chat(options={"seed": -1, "top_p": 0}).options
    assert options.seed is None
    assert options.top_p is not None
    assert 0 < options.top_p < 0.001


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"options": {"temperature": 9}}, "options.temperature: must be at most 5, got 9"),
        ({"options": {"temperature": "hot"}}, 'options.temperature: must be a number, got "hot"'),
        ({"options": {"num_predict": 0}}, "options.num_predict: must be at least 1, or -1 or -2"),
        ({"options": {"num_predict": -3}}, "options.num_predict: must be at least 1, or -1 or -2"),
        ({"options": {"num_predict": 1.5}}, "options.num_predict: must be a whole number"),
        ({"options": {"num_predict": True}}, "options.num_predict: must be a whole number"),
        ({"options": {"repeat_penalty": 0}}, "options.repeat_penalty: must be at least 0.01, got 0"),
        ({"options": {"seed": 1.5}}, "options.seed: must be a whole number"),
        ({"options": {"top_p": False}}, "options.top_p: must be a number, got false"),
        ({"options": {"stop": [""]}}, "options.stop[0]: must have at least 1 character(s)"),
        ({"options": {"stop": [3]}}, "options.stop[0]: must be a string, got 3"),
        ({"options": []}, "options: must be an object"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs: must be at most 20, got 21"),
        ({"format": "xml"}, 'format: must be "json" or a JSON schema, got "xml"'),
        ({"format": 3}, "format: must be a string or an object, got 3"),
        ({"think": "hard"}, 'think: must be true, false or one of "low", "medium", "high", "max", got "hard"'),
        ({"think": 3}, "think: must be true or false or a string, got 3"),
        ({"messages": [{"role": "human"}]}, "messages[0].role: must be 'system', 'user', 'assistant' or 'tool'"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content: must be a string, got 3"),
        ({"messages": [*QUESTION, {"role": "user", "images": ["aGk="]}]}, "messages[1].images: this server takes text"),
        ({"messages": "hi"}, "messages: must be a list"),
        ({"tools": [{"type": "function"}], "format": "json"}, "format: does not go with tools; leave one of them out"),
        ({"tools": [3]}, "tools[0]: must be an object, got 3"),
        ({"model": ""}, "model: must have at least 1 character(s)"),
        ({"model": None}, "model: is required"),
        ({"stream": "yes"}, 'stream: must be true or false, got "yes"'),
        ({"keep_alive": True}, "keep_alive: must be a number or a string"),
    ],
)
def test_a_bad_value_is_refused_with_the_name_that_the_client_knows(fields: dict[str, Any], sentence: str) -> None:
    assert refusal(**fields).startswith(sentence)


def test_what_steers_other_means_or_nothing_known_is_accepted_and_named() -> None:
    call = chat_call(
        options={"num_ctx": 4096, "num_gpu": 1, "mirostat": 2, "temperature": 1, "tempurature": 1},
        keep_alive="5m",
        think="high",
        top_logprobs=3,
        shift=True,
        messages=[{"role": "user", "content": "hi", "mood": "good"}],
    )
    assert ignored_names(call) == [
        "keep_alive",
        "messages.mood",
        "options.mirostat",
        "options.num_ctx",
        "options.num_gpu",
        "options.tempurature",
        "shift",
        "think=high",
        "top_logprobs",
    ]


def test_a_field_that_is_named_as_something_of_ours_hides_nothing() -> None:
    call = chat_call(__class__="x", __dict__={}, __post_init__=1, unknown=2)
    assert ignored_names(call) == ["__class__", "__dict__", "__post_init__", "unknown"]
    assert requests.chat(call, "demo").messages == (Message("user", "hi"),)


def test_nothing_is_named_where_all_is_honoured() -> None:
    fields = {"options": {"seed": 1}, "think": True, "tools": [], "stream": False, "logprobs": True}
    assert ignored_names(chat_call(**fields)) == []
    assert ignored_names(chat_call(format="json", think=False)) == []


@pytest.mark.parametrize(
    ("given_format", "expected"),
    [
        (None, None),
        ("", None),
        ("json", ResponseFormat("json_object")),
        ({"type": "object"}, ResponseFormat("json_schema", json_schema={"type": "object"})),
        ({}, ResponseFormat("json_schema", json_schema={})),
    ],
)
def test_a_format_becomes_the_native_one(given_format: Any, expected: ResponseFormat | None) -> None:
    assert chat(format=given_format).options.response_format == expected


@pytest.mark.parametrize(("given_think", "expected"), [(None, None), (False, False), (True, True), ("low", True)])
def test_thinking_is_asked_for_at_any_level(given_think: Any, expected: bool | None) -> None:
    assert chat(think=given_think).options.think is expected


@pytest.mark.parametrize("given_think", [True, "high"])
def test_a_format_comes_before_thoughts_where_both_are_asked_for(given_think: Any) -> None:
    call = chat_call(think=given_think, format="json")
    assert requests.chat(call, "demo").options.think is None
    assert ignored_names(call) == ["think"]
    assert chat(think=False, format="json").options.think is False


def test_likelihoods_are_asked_for_with_as_many_alternatives_as_wanted() -> None:
    assert chat(logprobs=True).options.top_logprobs == 0
    assert chat(logprobs=True, top_logprobs=5).options.top_logprobs == 5
    assert chat(logprobs=False, top_logprobs=5).options.top_logprobs is None


def test_a_round_of_tools_gets_ids_and_names_where_clients_send_none() -> None:
    tool = {"type": "function", "function": {"name": "weather", "parameters": {}}}
    request = chat(
        tools=[tool],
        messages=[
            {"role": "user", "content": "rain?"},
            {
                "role": "assistant",
                "thinking": "two towns",
                "tool_calls": [
                    {"function": {"name": "weather", "arguments": {"town": "Bonn"}}},
                    {"id": "mine", "function": {"name": "time", "arguments": {}}},
                    {"function": {"name": "weather", "arguments": '{"town": "Kiel"}'}},
                ],
            },
            {"role": "tool", "tool_name": "time", "content": "noon"},
            {"role": "tool", "content": "sun"},
            {"role": "tool", "tool_name": "weather", "content": "rain"},
        ],
    )
    assert request.tools == (tool,)
    assert request.messages[1].reasoning_content == "two towns"
    assert request.messages[1].tool_calls is not None
    assert [call["id"] for call in request.messages[1].tool_calls] == ["call_0", "mine", "call_2"]
    assert request.messages[1].tool_calls[2] == {
        "id": "call_2",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"town": "Kiel"}'},
    }
    assert [(result.tool_call_id, result.name, result.content) for result in request.messages[2:]] == [
        ("mine", "time", "noon"),
        ("call_0", "weather", "sun"),
        ("call_2", "weather", "rain"),
    ]


def test_a_result_that_no_call_asked_for_keeps_what_it_says_of_itself() -> None:
    request = chat(messages=[{"role": "tool", "tool_name": "time", "tool_call_id": "x", "content": "noon"}])
    assert (request.messages[0].tool_call_id, request.messages[0].name) == ("x", "time")


def test_a_prompt_is_a_chat_of_one_message_under_its_system_prompt() -> None:
    request = requests.generate(generate_call(system="be brief", stream=False), "demo")
    assert request.messages == (Message("system", "be brief"), Message("user", "hi"))
    assert request.stream is False
    assert requests.generate(generate_call(), "demo").messages == (Message("user", "hi"),)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"raw": True}, "raw: must be false; a prompt always goes through the model's chat template"),
        ({"template": "{{ .Prompt }}"}, "template: must be empty"),
        ({"suffix": "end"}, "suffix: must be empty"),
        ({"context": [1, 2]}, "context: must be empty; send the conversation as messages to /api/chat"),
        ({"images": ["aGk="]}, "images: this server takes text only"),
    ],
)
def test_what_would_make_another_prompt_is_refused(fields: Mapping[str, Any], sentence: str) -> None:
    with pytest.raises(errors.InvalidRequest, match=f"^{sentence}"):
        requests.generate(generate_call(**fields), "demo")


def test_what_clients_send_empty_is_no_wish() -> None:
    call = generate_call(raw=False, template="", suffix="", context=[], images=[], system="", format="")
    assert requests.generate(call, "demo") == requests.generate(generate_call(), "demo")
    assert ignored_names(call) == []


@pytest.mark.parametrize(
    ("given_time", "seconds"),
    [
        (300, 300),
        (0, 0),
        (0.5, 0.5),
        (-1, math.inf),
        ("5m", 300),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("100ms", 0.1),
        ("0", 0),
        ("0s", 0),
        ("-1", math.inf),
        ("-1m", math.inf),
        ("30", 30),
    ],
)
def test_a_time_to_stay_has_the_forms_of_ollama(given_time: float | str, seconds: float) -> None:
    assert keep_alive.seconds(given_time) == pytest.approx(seconds)


@pytest.mark.parametrize("given_time", ["", "5 m", "m", "5x", "--5m", "5m-3s", "1e3", "Inf", "٣m", math.nan, math.inf])
def test_another_form_of_a_time_to_stay_is_refused(given_time: float | str) -> None:
    with pytest.raises(errors.InvalidRequest, match=r"^keep_alive: must be a number of seconds, or a duration"):
        keep_alive.seconds(given_time)


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("demo", "demo"),
        ("demo:latest", "demo"),
        ("tagged:latest", "tagged:latest"),
        ("other:latest", "other:latest"),
        ("demo:8b", "demo:8b"),
        (":latest", ":latest"),
    ],
)
def test_the_tag_latest_is_left_out_where_only_the_bare_name_is_served(asked: str, meant: str) -> None:
    assert names.served(asked, lambda: ["demo", "tagged", "tagged:latest"]) == meant


@pytest.mark.parametrize(
    ("message", "of_prompt", "expected"),
    [
        ("options.response_format.json_schema: is no schema", False, "format: is no schema"),
        ("options.response_format: allows no answer at all", False, "format: allows no answer at all"),
        ("options.max_new_tokens: must be at least 1", False, "options.num_predict: must be at least 1"),
        ("options.temperature: must be at most 5", False, "options.temperature: must be at most 5"),
        ("options.think: no switch", False, "'demo' does not support thinking: think: no switch"),
        ("messages: the prompt has 9 tokens", False, "messages: the prompt has 9 tokens"),
        ("messages: the prompt has 9 tokens", True, "prompt: the prompt has 9 tokens"),
        ("tools[0]: must have a name", True, "tools[0]: must have a name"),
    ],
)
def test_what_an_engine_refuses_is_told_in_the_client_s_names(message: str, of_prompt: bool, expected: str) -> None:
    details = [{"loc": "x", "msg": "y"}]
    worded = wording.worded(errors.InvalidRequest(message, details=details), "demo", of_prompt=of_prompt)
    assert (worded.message, worded.status, list(worded.details)) == (expected, 400, details)


def test_a_model_that_is_not_there_is_not_found_in_the_words_that_clients_look_for() -> None:
    worded = wording.worded(errors.unknown_name("model", "qwen", ["qwen3"]), "qwen:latest", of_prompt=False)
    assert worded.message == "model 'qwen:latest' not found: no model 'qwen'; did you mean 'qwen3'? (known: qwen3)"
    assert worded.status == 404


def test_what_is_ignored_is_sorted_short_and_safe_in_a_header() -> None:
    assert ignored.headers([]) == {}
    assert ignored.headers(["b", "a", "b", "x\r\nset-cookie: y"]) == {ignored.HEADER: "a, b, x??set-cookie??y"}
    many = ignored.headers(f"{i:06d}" * 40 for i in range(10**6))[ignored.HEADER]
    assert many.endswith(", ...")
    assert len(many) < 4000


@given(st.dictionaries(st.text(), st.none()))
def test_whatever_a_field_is_called_its_header_can_be_sent(unknown: dict[str, None]) -> None:
    for value in ignored.headers(unknown).values():
        assert value.isascii()
        assert value.isprintable()


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["json", "5m", "user", "-1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
CALLS = (calls.ChatCall, calls.GenerateCall)
FIELDS = st.sampled_from(
    [field.name for cls in (calls.ChatCall, calls.GenerateCall) for field in dataclasses.fields(cls)]
)
OPTIONS = st.dictionaries(st.sampled_from(sorted(NATIVE_NAMES)) | st.text(), ANYTHING, max_size=4)


@given(st.dictionaries(FIELDS, ANYTHING), OPTIONS, st.booleans())
def test_whatever_is_sent_becomes_a_request_or_a_refusal(sent: dict[str, Any], options: Any, is_chat: bool) -> None:
    body = json.dumps({"model": "demo", "options": options, "messages": QUESTION, **sent}).encode()
    # Anything but a refusal of ours would be a 500.
    with contextlib.suppress(errors.InvalidRequest):
        if is_chat:
            call: calls.Call = CHAT.parse(body)
            request = requests.chat(CHAT.parse(body), "demo")
        else:
            call = GENERATE.parse(body)
            request = requests.generate(GENERATE.parse(body), "demo")
        ignored.headers(requests.ignored(call))
        wire.encode(to_json(request))
        keep_alive.seconds(call.keep_alive or 0)
