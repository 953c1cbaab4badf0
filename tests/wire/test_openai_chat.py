"""`/v1/models` and `/v1/chat/completions` of real servers over fake engines, directly and through the front door."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from openai.types import Model
from openai.types.chat import ChatCompletion

from callers import StartEngine, ask, engine_process, list_at, until
from fakes import FakeEngine
from modelengine import errors
from openai_types import chunks, error_of, events, typed
from servers import running

CHAT = "/v1/chat/completions"
GOOD: dict[str, Any] = {"model": "demo", "messages": [{"role": "user", "content": "hi"}]}
STREAM = {**GOOD, "stream": True}


@pytest.fixture(params=["engine", "front door"])
def serve(request: pytest.FixtureRequest, start_engine: StartEngine, front_door: str) -> Any:
    """Starts a fake engine; gives where it answers: itself, or the front door that relays to it."""

    def start(fake: FakeEngine) -> str:
        info = start_engine(fake, front_door)
        return front_door if request.param == "front door" else f"127.0.0.1:{info.port}"

    return start


@pytest.fixture(scope="module")
def engine() -> Iterator[str]:
    """One fake engine for all tests that leave it as it is."""
    with running(FakeEngine().app(), grace_s=0) as port:
        yield f"127.0.0.1:{port}"


def test_models_are_listed_and_found_by_names_with_slashes(serve: Any) -> None:
    address = serve(FakeEngine("org/demo-1.5"))
    listed = ask(address, "/v1/models", method="GET")
    body = listed.envelope
    assert body["object"] == "list"
    models = [typed(Model, json.dumps(each)) for each in body["data"]]
    assert [(model.id, model.owned_by) for model in models] == [("org/demo-1.5", "modelengine")]
    for path in ("/v1/models/org/demo-1.5", "/v1/models/org%2Fdemo-1.5"):
        assert typed(Model, ask(address, path, method="GET").body) == models[0]


def test_a_model_that_is_not_there_is_a_404_that_offers_the_nearest(front_door: str, start_engine: StartEngine) -> None:
    start_engine(FakeEngine(), address := front_door)
    retrieved = ask(address, "/v1/models/dem", method="GET")
    chatted = ask(address, CHAT, {**GOOD, "model": "dem"})
    for reply in (retrieved, chatted):
        assert reply.status == 404
        assert error_of(reply.body) == {
            "message": "no model 'dem'; did you mean 'demo'? (known: demo)",
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_not_found",
        }


def test_a_route_that_is_not_there_is_not_taken_for_a_model(serve: Any) -> None:
    address = serve(FakeEngine())
    assert error_of(ask(address, "/v1/nothing", {}).body)["code"] == "unknown_url"
    reply = ask(address, CHAT, method="GET")
    assert (reply.status, error_of(reply.body)["code"]) == (405, "unknown_url")


def test_a_whole_chat(serve: Any) -> None:
    reply = ask(serve(FakeEngine()), CHAT, GOOD)
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    assert "x-modelengine-ignored" not in reply.headers
    answer = typed(ChatCompletion, reply.body)
    assert answer.choices[0].message.content == "Hello world!"
    assert abs(answer.created - time.time()) < 60


def test_a_streamed_chat(serve: Any) -> None:
    reply = ask(serve(FakeEngine()), CHAT, {**STREAM, "stream_options": {"include_usage": True}})
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert (reply.headers["cache-control"], reply.headers["x-accel-buffering"]) == ("no-store", "no")
    said = chunks(reply.body)
    assert "".join(choice.delta.content or "" for chunk in said for choice in chunk.choices) == "Hello world!"
    assert said[-1].usage is not None


@pytest.mark.parametrize("body", [GOOD, STREAM])
def test_fields_without_effect_are_listed_in_a_header(serve: Any, body: dict[str, Any]) -> None:
    reply = ask(serve(FakeEngine()), CHAT, {**body, "user": "ada", "metadata": {}, "store": True, "service_tier": None})
    assert reply.headers["x-modelengine-ignored"] == "metadata, store, user"


def test_several_choices_are_several_requests_at_once(serve: Any) -> None:
    fake = FakeEngine(pause_s=0.05)
    address = serve(fake)
    begun = time.monotonic()
    answer = typed(ChatCompletion, ask(address, CHAT, {**GOOD, "n": 8, "seed": 5}).body)
    assert [choice.index for choice in answer.choices] == list(range(8))
    assert time.monotonic() - begun < 4 * 0.05 * len(fake.words)
    assert sorted(request.options.seed or 0 for request in fake.requests) == [5, 6, 7, 8, 9, 10, 11, 12]
    said = chunks(ask(address, CHAT, {**STREAM, "n": 3}).body)
    texts = {choice.index: "" for chunk in said for choice in chunk.choices}
    for chunk in said:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == dict.fromkeys(range(3), "Hello world!")


@pytest.mark.parametrize(
    ("failure", "status", "kind", "code"),
    [
        (errors.Busy("the queue is full", retry_after_s=3), 429, "rate_limit_error", "rate_limit_exceeded"),
        (errors.Unavailable("it is loading", retry_after_s=3), 503, "server_error", "unavailable"),
        (errors.RequestFailed("the step failed"), 500, "server_error", "request_failed"),
        (errors.InvalidRequest("options.stop: too odd"), 400, "invalid_request_error", "invalid_value"),
    ],
)
def test_what_an_engine_refuses_is_an_openai_error(
    serve: Any, failure: errors.ModelEngineError, status: int, kind: str, code: str
) -> None:
    address = serve(FakeEngine(refusal=failure))
    for body in (GOOD, STREAM, {**GOOD, "n": 2}, {**STREAM, "n": 2}):
        reply = ask(address, CHAT, body)
        error = error_of(reply.body)
        assert (reply.status, error["type"], error["code"]) == (status, kind, code)
        assert error["param"] == ("stop" if status == 400 else None)
        assert error["message"] == failure.message.removeprefix("options.")
        assert reply.headers.get("retry-after") == ("3" if failure.retry_after_s else None)


@pytest.mark.parametrize("n", [1, 3])
def test_a_stream_that_breaks_ends_with_an_error_and_no_reason_to_end(serve: Any, n: int) -> None:
    reply = ask(serve(FakeEngine(break_after=2)), CHAT, {**STREAM, "n": n})
    *said, last = events(reply.body)
    assert error_of(last) == {
        "message": "the fake broke",
        "type": "server_error",
        "param": None,
        "code": "request_failed",
    }
    assert all(choice["finish_reason"] is None for data in said for choice in json.loads(data)["choices"])


def test_a_stream_without_a_last_part_is_broken(serve: Any) -> None:
    *_, last = events(ask(serve(FakeEngine(break_after=2, break_by="end")), CHAT, STREAM).body)
    assert error_of(last)["code"] == "stream_broken"


def test_an_engine_that_is_killed_leaves_an_error_and_no_done(front_door: str) -> None:
    with engine_process("demo", pause_s=0.02, break_after=3, break_by="kill") as (_, info):
        list_at(info, front_door)
        *said, last = events(ask(front_door, CHAT, STREAM).body)
    assert len(said) >= 2
    assert error_of(last)["code"] == "stream_broken"


@pytest.mark.parametrize("body", [GOOD, STREAM, {**GOOD, "n": 3}, {**STREAM, "n": 3}])
def test_a_client_that_leaves_gives_up_all_its_choices(serve: Any, body: dict[str, Any]) -> None:
    fake = FakeEngine(words=["x"] * 1000, pause_s=0.02)
    host, port = serve(fake).split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    connection.request("POST", CHAT, json.dumps(body), {"content-type": "application/json"})
    wanted = body.get("n", 1)
    assert until(lambda: len(fake.requests) == wanted, 5)
    connection.close()
    assert until(lambda: fake.aborted == wanted, 5)
    assert fake.open_streams == 0


def test_one_choice_that_fails_gives_up_the_others(serve: Any) -> None:
    class OneFails(FakeEngine):
        async def stream(self, request: Any) -> Any:
            async for line in super().stream(request):
                yield line
                if request.options.seed == 1:
                    raise errors.RequestFailed("the fake broke")

    fake = OneFails(words=["x"] * 1000, pause_s=0.02)
    reply = ask(serve(fake), CHAT, {**STREAM, "n": 3, "seed": 1})
    assert error_of(events(reply.body)[-1])["code"] == "request_failed"
    assert until(lambda: fake.open_streams == 0, 5)


HOSTILE = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'{"model":"demo","messages":[{"role":"user","content":"\\ud800"}]}',
    b'{"model":"demo","messages":[{"role":"user","content":"\xff"}]}',
    b'{"model":"demo","messages":[{"role":"user","content":"hi"}],"temperature":NaN}',
    b'{"model":"demo","messages":' + b"[" * 100_000,
    b'{"model":"demo","x":' + b"9" * 100_000 + b"}",
    json.dumps({**GOOD, "n": 10**9}).encode(),
    json.dumps({**GOOD, "max_tokens": -(10**30)}).encode(),
    json.dumps({**GOOD, "stop": ["x"] * 1_000_000}).encode(),
    json.dumps({**GOOD, "logit_bias": {str(i): 1 for i in range(100_000)}}).encode(),
]


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_hostile_bodies_are_a_400_at_once(engine: str, number: int) -> None:
    begun = time.monotonic()
    reply = ask(engine, CHAT, HOSTILE[number])
    assert reply.status == 400
    assert error_of(reply.body)["type"] == "invalid_request_error"
    assert time.monotonic() - begun < 5


def test_what_does_not_go_together_is_refused_before_an_engine_is_asked(serve: Any) -> None:
    fake = FakeEngine()
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "array"}}}
    address = serve(fake)
    for field, body in {
        "tools[0].function.parameters.type": {"tools": [tool]},
        "response_format.json_schema.schema.x-guidance": {
            "response_format": {"type": "json_schema", "json_schema": {"schema": {"x-guidance": {}}}}
        },
    }.items():
        reply = ask(address, CHAT, {**GOOD, **body})
        assert (reply.status, error_of(reply.body)["param"]) == (400, field)
        assert error_of(reply.body)["message"].startswith(field)
    assert fake.requests == []


JSON_SCHEMA = {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}}


@pytest.mark.parametrize(
    ("native", "body", "field"),
    [
        ("options.max_new_tokens", {"max_completion_tokens": 5}, "max_completion_tokens"),
        ("options.max_new_tokens", {"max_tokens": 5}, "max_tokens"),
        ("options.max_new_tokens", {}, "max_completion_tokens"),
        ("options.think", {"reasoning_effort": "low"}, "reasoning_effort"),
        ("options.think", {"chat_template_kwargs": {"enable_thinking": True}}, "chat_template_kwargs.enable_thinking"),
        ("options.response_format.json_schema", {"response_format": JSON_SCHEMA}, "response_format.json_schema.schema"),
        ("options.response_format.json_schema", {"structured_outputs": {"json": {}}}, "structured_outputs.json"),
        ("options.response_format.regex", {"structured_outputs": {"regex": "a"}}, "structured_outputs.regex"),
        ("messages[0].content", {}, "messages[0].content"),
    ],
)
def test_what_an_engine_refuses_is_told_in_the_name_that_the_client_sent(
    serve: Any, native: str, body: dict[str, Any], field: str
) -> None:
    address = serve(FakeEngine(refusal=errors.InvalidRequest(f"{native}: no", details=[{"loc": native, "msg": "no"}])))
    for asked in (GOOD, STREAM):
        error = error_of(ask(address, CHAT, {**asked, **body}).body)
        assert (error["message"], error["param"]) == (f"{field}: no", field)


def test_a_slow_reader_of_several_choices_holds_the_engine_back_not_the_memory(
    front_door: str, start_engine: StartEngine
) -> None:
    class Counting(FakeEngine):
        said = 0

        async def stream(self, request: Any) -> Any:
            async for line in super().stream(request):
                self.said += 1
                yield line

    # 400 MB in all, if nobody waited for the reader.
    fake = Counting(words=["x" * 100_000] * 2000, pause_s=1e-6)
    start_engine(fake, front_door)
    host, port = front_door.split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    connection.request("POST", CHAT, json.dumps({**STREAM, "n": 2}), {"content-type": "application/json"})
    before = -1
    while fake.said != before:
        before = fake.said
        time.sleep(0.5)
    assert 0 < fake.said < 1000
    connection.close()
    assert until(lambda: fake.open_streams == 0, 5)
