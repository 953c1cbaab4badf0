"""The call of a request: what is taken from its headers, what goes on to the next server, and what is told of it."""

from __future__ import annotations

import asyncio

import pytest

from modelengine_api import calls

PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize("given", [b"a", b"A.b_c-9", b"x" * 128])
def test_a_sane_id_is_kept(given: bytes) -> None:
    assert calls.begin([(b"x-request-id", given)], None).id == given.decode()


@pytest.mark.parametrize(
    "given", [b"", b"x" * 129, b"a b", b"a\nb", b"a/b", b"\xff", b"id;drop", b"id\x1b[2J", b"id\n"]
)
def test_another_is_replaced(given: bytes) -> None:
    found = calls.begin([(b"x-request-id", given)], None).id
    assert found.encode() != given
    assert calls.SANE_ID.fullmatch(found.encode())


def test_two_requests_without_an_id_get_two() -> None:
    assert calls.begin([], None).id != calls.begin([], None).id


@pytest.mark.parametrize("given", [PARENT, b"01" + PARENT[2:], b"01" + PARENT[2:] + b"-what comes later"])
def test_a_trace_is_passed_on_as_it_came(given: bytes) -> None:
    call = calls.begin([(b"traceparent", given), (b"tracestate", b"a=1"), (b"tracestate", b"b=2")], None)
    assert call.trace_id == "0af7651916cd43dd8448eb211c80319c"
    assert calls.headers() == {"x-request-id": call.id, "traceparent": given.decode(), "tracestate": "a=1,b=2"}


@pytest.mark.parametrize(
    "given",
    [
        b"",
        b"ff" + PARENT[2:],
        PARENT.upper(),
        b"00-" + b"0" * 32 + PARENT[35:],
        PARENT[:36] + b"0" * 16 + b"-01",
        PARENT + b"\r\nx: y",
        PARENT[:-1],
    ],
)
def test_what_is_no_trace_is_dropped_with_its_state(given: bytes) -> None:
    call = calls.begin([(b"traceparent", given), (b"tracestate", b"a=1")], None)
    assert calls.headers() == {"x-request-id": call.id}
    assert call.trace_id == ""


@pytest.mark.parametrize("state", [b"x" * 513, b"a\nb", b"\xff"])
def test_a_state_that_is_too_long_or_no_text_is_dropped_alone(state: bytes) -> None:
    calls.begin([(b"traceparent", PARENT), (b"tracestate", state)], None)
    assert calls.headers().keys() == {"x-request-id", "traceparent"}


async def test_a_call_is_of_its_task_and_of_those_that_it_starts() -> None:
    async def learn() -> None:
        calls.asked_for("demo")
        calls.streams()
        calls.answered({"prompt_length": 3, "response_length": 4})

    async def one(given: bytes) -> calls.Call:
        call = calls.begin([(b"x-request-id", given)], "chat")
        await asyncio.sleep(0)
        await asyncio.create_task(learn())
        assert calls.request_id() == given.decode()
        return call

    for call in await asyncio.gather(one(b"first"), one(b"second")):
        assert (call.model, call.prompt_tokens, call.answer_tokens) == ("demo", 3, 4)
        assert call.streaming_since is not None


async def test_where_there_is_no_call_nothing_happens() -> None:
    async def without() -> None:
        calls.asked_for("demo")
        calls.retried("busy")
        calls.streams()
        calls.answered({})
        calls.failed("busy")
        assert (calls.current(), calls.headers(), calls.request_id()) == (None, {}, "")

    import contextvars

    await asyncio.create_task(without(), context=contextvars.Context())


def test_the_first_error_counts() -> None:
    call = calls.begin([], "chat")
    calls.failed("busy")
    calls.failed("stream_broken")
    assert call.error == "busy"


def test_the_tokens_of_several_answers_add_up_and_each_prompt_counts_once() -> None:
    call = calls.begin([], "completions")
    calls.wants_choices(2)
    for prompt, answer in ((3, 4), (3, 5), (10, 1), (10, 1)):
        calls.answered({"prompt_length": prompt, "response_length": answer})
    assert (call.prompt_tokens, call.answer_tokens, call.answers) == (13, 11, 4)


def test_the_last_line_of_a_relayed_answer_tells_its_tokens_or_its_error() -> None:
    call = calls.begin([], "chat")
    calls.closed({"state": "ok", "msg": {"prompt_length": 1, "response_length": "many"}})
    assert (call.prompt_tokens, call.answer_tokens) == (1, None)
    calls.closed({"state": "error", "msg": "full", "code": "busy"})
    assert call.error == "busy"
