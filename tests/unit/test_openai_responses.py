"""OpenAI's responses: what they ask of an engine, and their events, held against the package's own models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from openai.types.responses import Response

from modelengine import errors
from modelengine.chats import AS_MUCH_AS_FITS, ChatChunk, ChatOptions, ChatRequest, Message, ResponseFormat
from modelengine.protocol import to_json
from modelengine_api import chat_checks
from modelengine_api.bodies import Reader
from modelengine_api.openai.response import ResponseRequest
from modelengine_api.openai.response_answer import ResponseStream
from openai_types import response_events, typed

WEATHER = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": True}
CALL = {"id": "call_1", "type": "function", "index": 0, "function": {"name": "weather", "arguments": '{"city":"Rome"}'}}
LIKELY = {"token": "é", "token_id": 7, "logprob": -0.5, "bytes": [195, 169], "top": [{"token": "e", "logprob": -1.0}]}
STATELESS = "this server keeps no responses: send what was said before as input"
reader = Reader(ResponseRequest)


def read(**given: Any) -> ResponseRequest:
    return reader.parse(json.dumps({"model": "demo", "input": "hi", **given}).encode())


def part(content: str = "", reason: str | None = None, **fields: Any) -> Mapping[str, Any]:
    chunk = ChatChunk("demo", 5, 2, reason, None if reason else content, reason is not None, token_ids=(1,))
    return {**to_json(chunk), **fields}


def stream_of(**given: Any) -> ResponseStream:
    asked = read(**given)
    return ResponseStream(asked.frame(), 7, asked.wants_logprobs)


def answered(*said: Mapping[str, Any], **given: Any) -> Response:
    """The whole response, which is the one that the last event has."""
    stream = stream_of(**given)
    *_, last = response_events(b"".join([stream.feed(0, [each]) for each in said]))
    assert stream.is_complete
    assert stream.end() == b""
    whole = typed(Response, json.dumps(stream.response))
    assert last.response == whole
    return whole


ALL_THAT_FITS = ChatOptions(max_new_tokens=AS_MUCH_AS_FITS)


def test_a_plain_response_asks_for_what_the_context_holds_and_for_nothing_else_that_was_not_given() -> None:
    assert read().natives()[0] == ChatRequest("demo", (Message("user", "hi"),), options=ALL_THAT_FITS, stream=True)


def test_what_the_native_protocol_has_is_passed_on() -> None:
    native = read(
        instructions="be brief",
        max_output_tokens=7,
        temperature=0.5,
        top_p=0.9,
        top_logprobs=3,
        tools=[WEATHER],
        tool_choice={"type": "function", "name": "weather"},
        parallel_tool_calls=False,
        text={"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}},
        reasoning={"effort": "none"},
    ).natives()[0]
    function = {"name": "weather", "parameters": {"type": "object"}, "strict": True}
    assert native == ChatRequest(
        "demo",
        (Message("system", "be brief"), Message("user", "hi")),
        tools=({"type": "function", "function": function},),
        tool_choice="required",
        parallel_tool_calls=False,
        options=ChatOptions(
            max_new_tokens=7,
            temperature=0.5,
            top_p=0.9,
            top_logprobs=3,
            response_format=ResponseFormat("json_schema", {"type": "object"}),
            think=False,
        ),
        stream=True,
    )


def test_what_an_assistant_thinks_says_and_calls_in_a_row_is_one_message() -> None:
    def call(number: int) -> dict[str, Any]:
        return {"type": "function_call", "call_id": f"c{number}", "name": "weather", "arguments": "{}", "id": "fc_1"}

    function = {"name": "weather", "arguments": "{}"}
    calls = [{"id": f"c{number}", "type": "function", "function": function} for number in (1, 2, 3)]
    text = {"type": "output_text", "text": "let me see", "annotations": [], "logprobs": []}
    thought = {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]}
    asked = read(
        input=[
            {"role": "developer", "content": "be brief"},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "weather?"}]},
            thought,
            {"type": "message", "role": "assistant", "id": "msg_1", "status": "completed", "content": [text]},
            call(1),
            call(2),
            {"type": "function_call_output", "call_id": "c1", "output": "sun"},
            {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "rain"}]},
            {"type": "reasoning", "summary": [], "encrypted_content": "x"},
            call(3),
        ]
    )
    assert asked.natives()[0].messages == (
        Message("system", "be brief"),
        Message("user", "weather?"),
        Message("assistant", "let me see", reasoning_content="hm", tool_calls=(calls[0], calls[1])),
        Message("tool", "sun", tool_call_id="c1"),
        Message("tool", "rain", tool_call_id="c2"),
        Message("assistant", None, tool_calls=(calls[2],)),
    )
    assert list(asked.ignored()) == ["input.encrypted_content"]


def test_a_thought_stays_before_what_somebody_else_says_next() -> None:
    thought = {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]}
    user = {"role": "user", "content": "well?"}
    said = {"role": "assistant", "content": "yes"}
    assert read(input=[user, thought, user, said]).natives()[0].messages == (
        Message("user", "well?"),
        Message("assistant", "", reasoning_content="hm"),
        Message("user", "well?"),
        Message("assistant", "yes"),
    )


@pytest.mark.parametrize(
    "bound",
    [{"text": {"format": {"type": "json_object"}}}, {"tools": [WEATHER], "tool_choice": "required"}],
)
def test_who_wants_a_format_or_a_call_gets_it_without_a_thought_and_is_told(bound: Any) -> None:
    asked = read(**bound, reasoning={"effort": "high"})
    chat_checks.check(asked.natives()[0])
    assert asked.natives()[0].options.think is None
    assert list(asked.ignored()) == ["reasoning.effort"]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"input": None}, "input: is required"),
        ({"input": []}, "input: must have at least 1 item(s), got 0"),
        ({"input": 5}, "input: must be a string or a list, got 5"),
        ({"previous_response_id": "resp_1"}, f"previous_response_id: {STATELESS}"),
        ({"conversation": {"id": "c"}}, f"conversation: {STATELESS}"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, f"input[0].type: {STATELESS}"),
        (
            {"prompt": {"id": "p"}},
            "prompt: this server keeps no prompts: send the text as instructions and input",
        ),
        (
            {"background": True},
            "background: this server keeps no responses: use stream for an answer that takes long",
        ),
        (
            {"input": [{"type": "computer_call"}]},
            "input[0].type: must be 'message', 'function_call', 'function_call_output' or 'reasoning', "
            "got 'computer_call'",
        ),
        (
            {"input": [{"role": "tool", "content": "x"}]},
            "input[0].role: must be 'user', 'assistant', 'system' or 'developer', got 'tool'",
        ),
        ({"input": [{"role": "user"}]}, "input[0].content: is required"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
            "input[0].content[0].type: images are not taken, only text; must be 'text', got 'input_image'",
        ),
        ({"input": [{"type": "function_call", "name": "f", "arguments": "{}"}]}, "input[0].call_id: is required"),
        ({"input": [{"type": "function_call_output", "call_id": "c"}]}, "input[0].output: is required"),
        (
            {"tools": [{"type": "web_search"}]},
            "tools[0].type: must be 'function', got 'web_search': only functions of yours can be called",
        ),
        ({"tools": [{"type": "function"}]}, "tools[0].name: is required"),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema: is required"),
        ({"max_output_tokens": 0}, "max_output_tokens: must be at least 1, got 0"),
        ({"max_output_tokens": -1}, "max_output_tokens: must be at least 1, got -1"),
        ({"metadata": {"a": 5}}, "metadata.a: must be a string, got 5"),
        ({"truncation": "x"}, "truncation: must be 'auto' or 'disabled', got \"x\""),
    ],
)
def test_what_can_not_be_done_is_refused(given: Any, sentence: str) -> None:
    with pytest.raises(errors.InvalidRequest) as failure:
        read(**given).natives()[0]
    assert failure.value.message == sentence


def test_numbers_that_json_can_not_say_back_are_refused() -> None:
    with pytest.raises(errors.InvalidRequest, match="64 bits"):
        read(tools=[{**WEATHER, "parameters": {"maximum": 2**70}}]).frame()


def test_fields_without_effect_are_found() -> None:
    asked = read(
        store=True,
        truncation="auto",
        user="ada",
        include=["reasoning.encrypted_content", "message.output_text.logprobs"],
        text={"verbosity": "low"},
        reasoning={"summary": "auto"},
        metadata={"a": "b"},
        background=False,
        previous_response_id=None,
    )
    assert sorted(asked.ignored()) == [
        "include.reasoning.encrypted_content",
        "reasoning.summary",
        "store",
        "text.verbosity",
        "truncation",
        "user",
    ]
    assert asked.natives()[0].options.top_logprobs == 0
    assert list(read(store=False, truncation="disabled").ignored()) == []


def test_the_events_of_a_message_open_it_continue_it_and_close_it() -> None:
    stream = stream_of()
    body = stream.feed(0, [part("Hel"), part("lo")]) + stream.feed(0, [part(reason="stop", cached_tokens=4)])
    found = response_events(body)
    assert [event.type.removeprefix("response.") for event in found] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert [event.sequence_number for event in found] == list(range(10))
    assert [event.delta for event in found if event.type == "response.output_text.delta"] == ["Hel", "lo"]
    assert (found[2].item.content, found[8].item.content[0].text) == ([], "Hello")
    assert (found[0].response.status, found[0].response.output) == ("in_progress", [])
    whole = found[-1].response
    assert (whole.id[:5], whole.status, whole.output_text, whole.created_at) == ("resp_", "completed", "Hello", 7)
    assert whole.usage is not None
    assert whole.usage.to_dict() == {
        "input_tokens": 5,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
        "output_tokens": 2,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 7,
    }


def test_a_response_repeats_what_it_was_asked_for() -> None:
    schema = {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}
    whole = answered(
        part("{}"),
        part(reason="stop"),
        instructions="be brief",
        metadata={"a": "b"},
        tools=[WEATHER],
        tool_choice="auto",
        text={"format": schema},
        temperature=0.5,
        max_output_tokens=9,
        reasoning={"effort": "low"},
    )
    assert (whole.instructions, whole.metadata, whole.tool_choice) == ("be brief", {"a": "b"}, "auto")
    assert [tool.to_dict() for tool in whole.tools] == [WEATHER]
    assert whole.text is not None
    assert whole.text.to_dict() == {"format": schema}
    assert (whole.temperature, whole.max_output_tokens, whole.parallel_tool_calls) == (0.5, 9, True)
    assert whole.reasoning is not None
    assert whole.reasoning.effort == "low"


def test_thoughts_words_and_calls_are_items_of_their_own() -> None:
    second = {**CALL, "id": "call_2", "index": 1}
    whole = answered(
        part(reasoning_content="hm"),
        part(reasoning_content="m"),
        part("let me see"),
        part(tool_calls=[CALL, second]),
        part("done"),
        part(reason="tool_calls", response_length=9),
    )
    kinds = [item.type for item in whole.output]
    assert kinds == ["reasoning", "message", "function_call", "function_call", "message"]
    thought, _, call, other, _ = whole.output
    assert thought.type == "reasoning"
    assert [text.text for text in thought.content or []] == ["hmm"]
    assert call.type == other.type == "function_call"
    assert (call.call_id, call.name, call.arguments) == ("call_1", "weather", '{"city":"Rome"}')
    assert other.call_id == "call_2"
    assert len({item.id for item in whole.output}) == 5
    assert whole.usage is not None
    assert whole.usage.output_tokens_details.reasoning_tokens == 2


def test_an_answer_that_was_cut_is_incomplete_and_says_why() -> None:
    whole = answered(part("Hel"), part(reason="length"))
    assert whole.status == "incomplete"
    assert whole.incomplete_details is not None
    assert whole.incomplete_details.reason == "max_output_tokens"
    assert [item.to_dict()["status"] for item in whole.output] == ["incomplete"]


def test_an_answer_without_a_word_is_an_empty_message() -> None:
    whole = answered(part(reason="stop"))
    assert ([item.type for item in whole.output], whole.output_text) == (["message"], "")


def test_likelihoods_are_in_the_events_and_in_the_item_when_asked_for() -> None:
    said = [part("é", logprobs=[LIKELY]), part("", logprobs=[LIKELY]), part(reason="stop", logprobs=[LIKELY])]
    text = answered(*said, top_logprobs=1).output[0].to_dict()["content"][0]
    assert (
        text["logprobs"]
        == [
            {
                "token": "é",
                "logprob": -0.5,
                "bytes": [195, 169],
                "top_logprobs": [{"token": "e", "logprob": -1.0, "bytes": [101]}],
            }
        ]
        * 3
    )
    assert answered(*said).output[0].to_dict()["content"][0]["logprobs"] == []


def test_a_failure_after_the_beginning_is_the_last_event_and_keeps_what_there_is() -> None:
    stream = stream_of()
    body = stream.feed(0, [part("Hel")]) + stream.failed(errors.RequestFailed("the step failed"))
    *_, last = response_events(body)
    assert last.type == "response.failed"
    assert (last.response.status, last.response.output_text) == ("failed", "Hel")
    assert last.response.error is not None
    assert (last.response.error.code, last.response.error.message) == ("server_error", "the step failed")


def test_nothing_is_said_before_the_first_part() -> None:
    assert stream_of().feed(0, []) == b""
