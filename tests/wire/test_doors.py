"""The doors of every server of ours: whatever comes in wrong is answered with an envelope that helps."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from fastapi import FastAPI

from callers import StartEngine, ask
from fakes import FakeEngine
from modelengine import errors
from modelengine_api import doors, limits
from servers import running

INFERENCE = "/engine/inference"
GOOD = {"model": "demo", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def engine(start_engine: StartEngine) -> str:
    return f"127.0.0.1:{start_engine(FakeEngine()).port}"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"model": ', "body: is not JSON: EOF while parsing a value at line 1 column 10"),
        (b"[" * 1000, "body: is nested more than 64 deep"),
        ([], "body: must be an object"),
        ({**GOOD, "messages": []}, "messages: must have at least 1 item(s), got 0"),
        ({**GOOD, "messages": [{"role": "user", "content": 7}]}, "messages[0].content: must be a string, got 7"),
        ({**GOOD, "options": {"temprature": 1}}, "did you mean 'temperature'?"),
        ({**GOOD, "options": {"temperature": 9}}, "options.temperature: must be at most 5, got 9"),
        ({**GOOD, "options": {"seed": 2**70}}, "options.seed: must be at most"),
        (
            {**GOOD, "n": 10**9},
            "n: unknown; known are cache_salt, messages, model, options, parallel_tool_calls, resume, stream, tool_",
        ),
    ],
)
def test_a_bad_request_is_a_400_that_names_the_field(engine: str, body: object, says: str) -> None:
    reply = ask(engine, INFERENCE, body)
    assert (reply.status, reply.envelope["state"], reply.envelope["code"]) == (400, "error", "invalid_request")
    assert says in reply.msg
    assert {"type", "loc", "msg", "input"} == set(reply.envelope["details"][0])


def test_two_limits_that_disagree_are_refused_by_both_names(engine: str) -> None:
    reply = ask(engine, INFERENCE, {**GOOD, "options": {"max_tokens": 1, "max_new_tokens": 2}})
    assert reply.status == 400
    assert "max_tokens" in reply.msg
    assert "max_new_tokens" in reply.msg
    same = {**GOOD, "stream": False, "options": {"max_tokens": 2, "max_new_tokens": 2}}
    assert ask(engine, INFERENCE, same).status == 200


def test_a_form_from_a_page_of_a_foreign_origin_is_refused_and_json_is_not(engine: str) -> None:
    page = {"origin": "http://elsewhere"}
    assert ask(engine, INFERENCE, GOOD, headers={**page, "content-type": "text/plain"}).status == 400
    assert ask(engine, INFERENCE, GOOD, headers=page).status == 200
    assert ask(engine, INFERENCE, GOOD, headers={"content-type": "text/plain"}).status == 200


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_a_413_that_names_both_sizes(engine: str, chunked: bool) -> None:
    size = limits.MAX_BODY_BYTES + 100_000

    def pieces() -> Iterator[bytes]:
        for start in range(0, size, 100_000):
            yield b"x" * min(100_000, size - start)

    reply = ask(engine, INFERENCE, pieces() if chunked else b"x" * size)
    assert (reply.status, reply.envelope["code"], reply.headers["connection"]) == (413, "too_large", "close")
    assert str(limits.MAX_BODY_BYTES) in reply.msg
    assert chunked or str(size) in reply.msg


def test_a_body_just_under_the_limit_is_read(engine: str) -> None:
    content = "x" * (limits.MAX_BODY_BYTES - 1000)
    body = {"model": "demo", "messages": [{"role": "user", "content": content}], "stream": False}
    assert ask(engine, INFERENCE, body).status == 200


def test_a_body_far_over_the_limit_is_not_even_read(engine: str) -> None:
    declared = {"content-length": str(limits.MAX_BODY_BYTES * 100)}
    assert ask(engine, INFERENCE, b"{}", headers=declared).status == 413


def test_an_unknown_method_of_an_engine_is_told_the_known_ones(engine: str) -> None:
    reply = ask(engine, "/engine/inferense", GOOD)
    assert (reply.status, reply.envelope["code"]) == (404, "not_found")
    assert (
        reply.msg == "unknown method 'inferense'; this server supports embed, inference, info, rerank, support_methods"
    )


def test_an_engine_does_not_claim_the_methods_of_a_name_server(engine: str) -> None:
    reply = ask(engine, "/nameserver/register", {})
    assert (reply.status, reply.msg) == (404, "nothing is served at /nameserver/register")


def test_the_wrong_http_method_is_a_405_that_names_the_right_one(engine: str) -> None:
    reply = ask(engine, INFERENCE, method="GET")
    assert (reply.status, reply.headers["allow"], reply.envelope["code"]) == (405, "POST", "not_found")


def test_info_takes_the_engines_own_name_or_none_and_no_other(engine: str) -> None:
    assert ask(engine, "/engine/info").msg["name"] == "demo"
    assert ask(engine, "/engine/info", {"model": "demo"}).msg["name"] == "demo"
    reply = ask(engine, "/engine/support_methods", {"model": "dem"})
    assert (reply.status, reply.msg) == (404, "no model 'dem'; did you mean 'demo'? (known: demo)")


def test_a_refusal_says_when_to_come_again(start_engine: StartEngine) -> None:
    fake = FakeEngine(refusal=errors.Busy("full", retry_after_s=1.2))
    reply = ask(f"127.0.0.1:{start_engine(fake).port}", INFERENCE, GOOD)
    assert (reply.status, reply.headers["retry-after"], reply.envelope["retry_after_s"]) == (429, "2", 1.2)


def broken_app() -> FastAPI:
    app = FastAPI()
    doors.install(app)

    @app.get("/broken")
    async def broken() -> None:
        raise ValueError("a secret")

    @app.get("/typed")
    async def typed(count: int) -> int:
        return count

    return app


def test_a_fault_of_ours_is_logged_with_its_traceback_and_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with running(broken_app()) as port, caplog.at_level(logging.ERROR):
        reply = ask(f"127.0.0.1:{port}", "/broken", method="GET")
    assert (reply.status, reply.envelope["code"]) == (500, "internal")
    assert b"secret" not in reply.body
    assert "a secret" in caplog.text
    assert "Traceback" in caplog.text


def test_what_fastapi_itself_refuses_has_the_same_envelope() -> None:
    with running(broken_app()) as port:
        reply = ask(f"127.0.0.1:{port}", "/typed?count=many", method="GET")
    assert (reply.status, reply.envelope["code"], reply.envelope["details"][0]["loc"]) == (
        400,
        "invalid_request",
        "count",
    )
