"""`/v1/responses` of real servers over fake engines, directly and through the front door."""

from __future__ import annotations

import http.client
import json
from typing import Any

import pytest
from openai.types.responses import Response

from callers import StartEngine, ask, until
from fakes import FakeEngine
from modelengine import errors
from openai_types import error_of, response_events, typed

RESPONSES = "/v1/responses"
GOOD: dict[str, Any] = {"model": "demo", "input": "hi"}
STREAM = {**GOOD, "stream": True}


@pytest.fixture(params=["engine", "front door"])
def serve(request: pytest.FixtureRequest, start_engine: StartEngine, front_door: str) -> Any:
    """Starts a fake engine; gives where it answers: itself, or the front door that relays to it."""

    def start(fake: FakeEngine) -> str:
        info = start_engine(fake, front_door)
        return front_door if request.param == "front door" else f"127.0.0.1:{info.port}"

    return start


def test_a_whole_response(serve: Any) -> None:
    reply = ask(serve(FakeEngine()), RESPONSES, {**GOOD, "user": "ada"})
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-modelengine-ignored"] == "user"
    assert typed(Response, reply.body).output_text == "Hello world!"


def test_a_streamed_response(serve: Any) -> None:
    reply = ask(serve(FakeEngine()), RESPONSES, {**STREAM, "user": "ada"})
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert reply.headers["x-modelengine-ignored"] == "user"
    *_, last = response_events(reply.body)
    assert (last.type, last.response.output_text) == ("response.completed", "Hello world!")


@pytest.mark.parametrize("body", [GOOD, STREAM])
def test_what_an_engine_refuses_is_an_openai_error(serve: Any, body: Any) -> None:
    reply = ask(serve(FakeEngine(refusal=errors.Busy("full", retry_after_s=2))), RESPONSES, body)
    assert (reply.status, error_of(reply.body)["code"], reply.headers["retry-after"]) == (
        429,
        "rate_limit_exceeded",
        "2",
    )


def test_a_response_that_breaks_has_failed(serve: Any) -> None:
    address = serve(FakeEngine(break_after=2))
    *_, last = response_events(ask(address, RESPONSES, STREAM).body)
    assert (last.type, last.response.output_text) == ("response.failed", "Hello ")
    assert last.response.error.message == "the fake broke"
    whole = ask(address, RESPONSES, GOOD)
    assert (whole.status, error_of(whole.body)["code"]) == (500, "request_failed")


def test_an_answer_without_a_last_part_is_no_whole_response(serve: Any) -> None:
    reply = ask(serve(FakeEngine(break_after=2, break_by="end")), RESPONSES, GOOD)
    assert (reply.status, error_of(reply.body)["code"]) == (502, "stream_broken")


@pytest.mark.parametrize("body", [GOOD, STREAM])
def test_a_client_that_leaves_gives_it_up(serve: Any, body: dict[str, Any]) -> None:
    fake = FakeEngine(words=["x"] * 1000, pause_s=0.02)
    host, port = serve(fake).split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    connection.request("POST", RESPONSES, json.dumps(body), {"content-type": "application/json"})
    assert until(lambda: fake.open_streams == 1, 5)
    connection.close()
    assert until(lambda: fake.aborted == 1, 5)


@pytest.mark.parametrize(("method", "path"), [("GET", "/resp_1"), ("DELETE", "/resp_1"), ("POST", "/resp_1/cancel")])
def test_a_response_can_not_be_asked_for_again(front_door: str, method: str, path: str) -> None:
    reply = ask(front_door, RESPONSES + path, method=method)
    assert reply.status == 404
    assert "this server keeps no responses" in error_of(reply.body)["message"]


@pytest.mark.parametrize(
    ("native", "field"),
    [
        ("messages[1].tool_calls[0].function.arguments", "input"),
        ("messages", "input"),
        ("tools[2].function.parameters.type", "tools[2].parameters.type"),
        ("options.response_format.json_schema", "text.format.schema"),
        ("options.response_format", "text.format"),
        ("options.think", "reasoning.effort"),
        ("options.max_new_tokens", "max_output_tokens"),
        ("options.temperature", "temperature"),
    ],
)
def test_what_an_engine_refuses_is_told_in_the_request_s_names(serve: Any, native: str, field: str) -> None:
    address = serve(FakeEngine(refusal=errors.InvalidRequest(f"{native}: no", details=[{"loc": native, "msg": "no"}])))
    for body in (GOOD, STREAM):
        error = error_of(ask(address, RESPONSES, body).body)
        assert (error["message"], error["param"]) == (f"{field}: no", field)


def test_what_does_not_go_together_is_told_in_the_request_s_names(serve: Any) -> None:
    address = serve(FakeEngine())
    tool = {"type": "function", "name": "f", "parameters": {"type": "array"}}
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "[]"}
    for field, body in {"tools[0].parameters.type": {"tools": [tool]}, "input": {"input": [call]}}.items():
        assert error_of(ask(address, RESPONSES, {**GOOD, **body}).body)["param"] == field
