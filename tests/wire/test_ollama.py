"""The Ollama API over real HTTP: at a front door over its engines, and at an engine on its own."""

from __future__ import annotations

import json
import socket
import time
from contextlib import ExitStack
from typing import Any

import jsonschema
import ollama
import pytest

from callers import OpenFrontDoor, Reply, StartEngine, ask, engine_process, list_at, until
from fakes import FakeEngine, Informants
from modelengine import errors
from modelengine.chats import ResponseFormat
from modelengine_api import ignored
from servers import running

CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"town":"Bonn"}'}}
TIMINGS = {"queued_s": 0.0, "prompt_s": 0.001, "answer_s": 0.002}


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": "demo", "messages": [{"role": "user", "content": "hi"}], **fields}


def content(reply: Reply) -> str:
    return "".join(line["message"]["content"] for line in reply.lines)


def error(reply: Reply) -> str:
    body = json.loads(reply.body)
    assert set(body) == {"error"}
    message: str = body["error"]
    return message


@pytest.fixture
def fake() -> FakeEngine:
    return FakeEngine()


@pytest.fixture(params=["front door", "engine"])
def address(
    request: pytest.FixtureRequest,
    stack: ExitStack,
    fake: FakeEngine,
    open_front_door: OpenFrontDoor,
    start_engine: StartEngine,
) -> str:
    """Where the API answers for `demo`: both places have the same."""
    if request.param == "engine":
        return f"127.0.0.1:{stack.enter_context(running(fake.app(), grace_s=0))}"
    front_door = open_front_door()
    start_engine(fake, front_door)
    return front_door


def test_who_asks_whether_anybody_is_there_hears_what_ollama_says(address: str) -> None:
    reply = ask(address, "/", method="GET")
    assert (reply.status, reply.body) == (200, b"Ollama is running")
    assert reply.headers["content-type"].startswith("text/plain")
    assert (ask(address, "/", method="HEAD").status, ask(address, "/", method="HEAD").body) == (200, b"")


@pytest.mark.parametrize("path", ["/api/version", "/api/tags", "/api/ps"])
def test_what_is_read_can_be_asked_for_by_get_and_head(address: str, path: str) -> None:
    assert ask(address, path, method="GET").status == 200
    assert ask(address, path, method="HEAD").status == 200


def test_a_chat_is_a_stream_of_lines_unless_told_otherwise(address: str, fake: FakeEngine) -> None:
    reply = ask(address, "/api/chat", chat())
    assert reply.headers["content-type"].startswith("application/x-ndjson")
    assert content(reply) == "Hello world!"
    assert [line["done"] for line in reply.lines] == [False] * 4 + [True]
    for line in reply.lines:
        ollama.ChatResponse(**line)
    assert (reply.lines[-1]["done_reason"], reply.lines[-1]["eval_count"]) == ("stop", 4)
    assert fake.requests[0].stream is True
    assert ignored.HEADER not in reply.headers


def test_a_whole_chat_is_one_object(address: str, fake: FakeEngine) -> None:
    reply = ask(address, "/api/chat", chat(stream=False))
    assert reply.headers["content-type"] == "application/json"
    whole = ollama.ChatResponse(**json.loads(reply.body))
    assert (whole.message.content, whole.done, whole.done_reason) == ("Hello world!", True, "stop")
    assert fake.requests[0].stream is False


@pytest.mark.parametrize("stream", [True, False])
def test_a_prompt_is_answered_as_a_chat_is(address: str, fake: FakeEngine, stream: bool) -> None:
    reply = ask(address, "/api/generate", {"model": "demo", "prompt": "hi", "system": "be brief", "stream": stream})
    parts = [ollama.GenerateResponse(**line) for line in reply.lines]
    assert "".join(part.response or "" for part in parts) == "Hello world!"
    assert (parts[-1].done, parts[-1].done_reason, parts[-1].context) == (True, "stop", None)
    assert [(message.role, message.content) for message in fake.requests[0].messages] == [
        ("system", "be brief"),
        ("user", "hi"),
    ]


@pytest.mark.parametrize("stream", [True, False])
def test_thoughts_and_tool_calls_come_in_their_own_fields(address: str, fake: FakeEngine, stream: bool) -> None:
    fake.parts = [
        {"reasoning_content": "I wonder"},
        {"content": "Let me see."},
        {"tool_calls": [CALL]},
        {"done": True, "finish_reason": "tool_calls", "timings": TIMINGS},
    ]
    messages = [ollama.ChatResponse(**line).message for line in ask(address, "/api/chat", chat(stream=stream)).lines]
    assert "".join(message.thinking or "" for message in messages) == "I wonder"
    assert "".join(message.content or "" for message in messages) == "Let me see."
    calls = [call for message in messages for call in message.tool_calls or ()]
    assert [(call.function.name, call.function.arguments) for call in calls] == [("weather", {"town": "Bonn"})]


def test_what_is_asked_of_the_engine_arrives_there(address: str, fake: FakeEngine) -> None:
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    schema = {"type": "object", "properties": {"town": {"type": "string"}}}
    messages = [
        {"role": "user", "content": "rain?"},
        {"role": "assistant", "tool_calls": [{"function": {"name": "weather", "arguments": {"town": "Bonn"}}}]},
        {"role": "tool", "tool_name": "weather", "content": "sun"},
    ]
    asked = {"messages": messages, "tools": [tool], "think": True, "logprobs": True}
    assert ask(address, "/api/chat", chat(**asked, options={"repeat_penalty": 1.5})).status == 200
    assert ask(address, "/api/chat", chat(format=schema)).status == 200
    request = fake.requests[0]
    assert request.tools == (tool,)
    assert fake.requests[1].options.response_format == ResponseFormat("json_schema", json_schema=schema)
    assert (request.options.think, request.options.top_logprobs) == (True, 0)
    assert request.options.repetition_penalty == 1.5
    assert request.messages[1].tool_calls is not None
    assert request.messages[1].tool_calls[0]["id"] == request.messages[2].tool_call_id


def test_lines_that_come_together_are_all_said(address: str, fake: FakeEngine) -> None:
    fake.words = [f"{i} " for i in range(500)]
    assert content(ask(address, "/api/chat", chat())) == "".join(fake.words)


def test_what_has_no_effect_is_named_in_a_header_of_every_kind_of_answer(address: str) -> None:
    wishes = {"keep_alive": "5m", "options": {"num_ctx": 1, "num_gpu": 1}, "mood": 1}
    expected = "keep_alive, mood, options.num_ctx, options.num_gpu"
    for stream in (True, False):
        assert ask(address, "/api/chat", chat(stream=stream, **wishes)).headers[ignored.HEADER] == expected
    loaded = ask(address, "/api/generate", {"model": "demo", "stream": False, **wishes})
    assert loaded.headers[ignored.HEADER] == expected
    assert ask(address, "/api/show", {"model": "demo", "verbose": True}).headers[ignored.HEADER] == "verbose"


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
def test_a_bad_value_is_refused_before_it_reaches_the_engine(address: str, fake: FakeEngine, path: str) -> None:
    reply = ask(address, path, {**chat(), "prompt": "hi", "options": {"temperature": -1}})
    assert (reply.status, error(reply)) == (400, "options.temperature: must be at least 0, got -1")
    assert ask(address, path, b"{").status == 400
    assert fake.requests == []


def test_what_fields_mean_together_is_looked_at_before_it_reaches_the_engine(address: str, fake: FakeEngine) -> None:
    for fields, message in (
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name: must be a string"),
        ({"format": {"x-guidance": {}}}, "format.x-guidance: is not for requests"),
    ):
        for stream in (True, False):
            reply = ask(address, "/api/chat", chat(stream=stream, **fields))
            assert reply.status == 400
            assert error(reply).startswith(message)
    assert fake.requests == []


def test_the_tag_latest_is_the_name_without_it_and_is_answered_as_asked(address: str, fake: FakeEngine) -> None:
    reply = ask(address, "/api/chat", chat(model="demo:latest"))
    assert {line["model"] for line in reply.lines} == {"demo:latest"}
    assert fake.requests[0].model == "demo"
    assert ask(address, "/api/show", {"model": "demo:latest"}).status == 200


def test_an_unknown_model_is_not_found_in_the_words_that_clients_look_for(front_door: str) -> None:
    for path, fields in (("chat", {}), ("chat", {"stream": False}), ("chat", {"messages": []}), ("show", {})):
        reply = ask(front_door, f"/api/{path}", chat(model="qwen", **fields))
        assert reply.status == 404
        assert error(reply).startswith("model 'qwen' not found")


def test_a_model_must_be_named_to_be_shown(address: str) -> None:
    assert error(ask(address, "/api/show", {})) == "model: is required"
    assert error(ask(address, "/api/show", {"model": "", "name": ""})) == "model: is required"
    assert ask(address, "/api/show", {"name": "demo"}).status == 200


def test_ollama_s_own_command_line_sends_empty_fields_along(address: str) -> None:
    sent = {"model": "", "system": "", "template": "", "verbose": False, "options": None, "name": "demo"}
    reply = ask(address, "/api/show", sent)
    assert (reply.status, json.loads(reply.body)["capabilities"]) == (200, ["completion"])


@pytest.mark.parametrize(
    ("path", "said"),
    [("/api/chat", {"message": {"role": "assistant", "content": ""}}), ("/api/generate", {"response": ""})],
)
def test_a_call_without_a_question_says_that_it_loads_or_unloads(
    address: str, fake: FakeEngine, path: str, said: dict[str, Any]
) -> None:
    for keep, reason in ((None, "load"), ("5m", "load"), (0, "unload"), ("0s", "unload")):
        reply = ask(address, path, {"model": "demo", "keep_alive": keep})
        body = json.loads(reply.body)
        assert reply.status == 200
        assert {key: body[key] for key in ("done", "done_reason", *said)} == {
            "done": True,
            "done_reason": reason,
            **said,
        }
    assert fake.requests == []


def test_a_model_that_is_away_can_t_be_loaded_and_is_as_good_as_unloaded(stack: ExitStack) -> None:
    address = f"127.0.0.1:{stack.enter_context(running(Informants().app(), grace_s=0))}"
    assert ask(address, "/api/chat", {"model": "broken"}).status == 503
    unloaded = ask(address, "/api/chat", {"model": "broken", "keep_alive": 0})
    assert (unloaded.status, json.loads(unloaded.body)["done_reason"]) == (200, "unload")


def test_a_full_engine_says_when_to_come_again(address: str, fake: FakeEngine) -> None:
    fake.refusal = errors.Busy("full", retry_after_s=2)
    for stream in (True, False):
        reply = ask(address, "/api/chat", chat(stream=stream))
        assert (reply.status, reply.headers["retry-after"], error(reply)) == (429, "2", "full")


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
@pytest.mark.parametrize("how", ["raise", "end"])
def test_a_failure_after_the_first_byte_is_a_last_line_and_nothing_is_done(
    address: str, fake: FakeEngine, path: str, how: str
) -> None:
    fake.break_after, fake.break_by = 2, how
    *parts, ending = ask(address, path, {**chat(), "prompt": "hi"}).lines
    assert len(parts) == 2
    assert not any(part["done"] for part in parts)
    assert set(ending) == {"error"}


def test_an_engine_that_is_killed_midway_ends_the_stream_with_an_error(front_door: str) -> None:
    with engine_process("demo", words=["a"] * 5, break_after=3, break_by="kill") as (_, info):
        list_at(info, front_door)
        *parts, ending = ask(front_door, "/api/chat", chat()).lines
    assert [part["message"]["content"] for part in parts] == ["a"] * 3
    assert "error" in ending


@pytest.mark.parametrize("stream", [True, False])
def test_when_the_client_leaves_the_answer_is_given_up(address: str, fake: FakeEngine, stream: bool) -> None:
    fake.words, fake.pause_s = ["x"] * 1000, 0.01
    host, port = address.split(":")
    body = json.dumps(chat(stream=stream)).encode()
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        head = f"POST /api/chat HTTP/1.1\r\nhost: {address}\r\ncontent-length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        if stream:
            connection.recv(100)
        assert until(lambda: len(fake.requests) == 1)
    assert until(lambda: fake.aborted == 1)


def test_a_stream_flows_while_the_engine_still_speaks(address: str, fake: FakeEngine) -> None:
    fake.words, fake.pause_s = ["x"] * 5, 0.2
    with ollama.Client(f"http://{address}") as client:
        started = time.monotonic()
        parts = client.chat("demo", [{"role": "user", "content": "hi"}], stream=True)
        next(iter(parts))
        assert time.monotonic() - started < 0.8


def test_tags_list_what_can_be_asked_for_and_ps_what_runs(front_door: str, start_engine: StartEngine) -> None:
    for name in ("b", "org/a"):
        start_engine(FakeEngine(name), front_door)
    for path in ("/api/tags", "/api/ps"):
        assert [model["name"] for model in json.loads(ask(front_door, path, method="GET").body)["models"]] == [
            "b",
            "org/a",
        ]


def test_a_name_without_a_replica_is_in_tags_and_not_in_ps(stack: ExitStack, fake: FakeEngine) -> None:
    fake.is_ready = False
    address = f"127.0.0.1:{stack.enter_context(running(fake.app(), grace_s=0))}"
    tags, ps = (json.loads(ask(address, path, method="GET").body)["models"] for path in ("/api/tags", "/api/ps"))
    assert ([model["name"] for model in tags], ps) == (["demo"], [])


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/pull"),
        ("POST", "/api/create"),
        ("POST", "/api/push"),
        ("POST", "/api/copy"),
        ("DELETE", "/api/delete"),
        ("GET", "/api/pull"),
        ("POST", "/api/blobs/sha256:abc"),
        ("PUT", "/api/blobs/../../etc/passwd"),
    ],
)
def test_nobody_changes_which_models_there_are_and_hears_who_does(address: str, method: str, path: str) -> None:
    reply = ask(address, path, {"model": "demo"}, method=method)
    assert reply.status == 403
    assert "ModelEngine" in error(reply) or "kubectl delete modelengine" in error(reply)


def test_whether_a_blob_is_there_is_refused_too(address: str) -> None:
    assert ask(address, "/api/blobs/sha256:abc", method="HEAD").status == 403
    uploaded = iter([b"x" * 65536] * 200)
    assert ask(address, "/api/blobs/sha256:abc", uploaded, method="POST").status == 403


def test_what_is_not_served_is_told_in_the_same_form(address: str) -> None:
    assert (ask(address, "/api/nothing", {}).status, error(ask(address, "/api/nothing", {}))) == (
        404,
        "nothing is served at /api/nothing",
    )
    assert error(ask(address, "/api/chat", method="GET")) == "GET is not allowed on /api/chat; use POST"


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/api/chat", chat(), 200),
        ("POST", "/api/chat", chat(stream=False), 200),
        ("POST", "/api/chat", {"model": "demo"}, 200),
        ("POST", "/api/chat", {}, 400),
        ("POST", "/api/generate", {"model": "demo", "prompt": "hi"}, 200),
        ("POST", "/api/generate", {"model": "demo", "raw": True}, 400),
        ("POST", "/api/show", {"model": "demo"}, 200),
        ("POST", "/api/show", {"model": "other"}, 404),
        ("GET", "/api/tags", None, 200),
        ("GET", "/api/ps", None, 200),
        ("GET", "/api/version", None, 200),
    ],
)
def test_what_is_answered_is_what_the_description_says(
    front_door: str, start_engine: StartEngine, method: str, path: str, body: Any, status: int
) -> None:
    thinking = [{"reasoning_content": "hm"}, {"tool_calls": [CALL]}, {"content": "a", "logprobs": []}]
    start_engine(FakeEngine(parts=[*thinking, {"done": True, "finish_reason": "stop", "timings": TIMINGS}]), front_door)
    document = json.loads(ask(front_door, "/openapi.json", method="GET").body)
    reply = ask(front_door, path, body, method=method)
    assert reply.status == status
    described = document["paths"][path][method.lower()]["responses"][str(status)]["content"]
    schema = described[reply.headers["content-type"]]["schema"]
    for line in reply.lines:
        jsonschema.validate(line, {**schema, "components": document["components"]})
