"""`/v1/completions` of a real server over a fake engine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from openai.types import Completion

from callers import ask
from fakes import FakeEngine
from modelengine import errors
from openai_types import completions, error_of, typed
from servers import running

COMPLETIONS = "/v1/completions"
GOOD: dict[str, Any] = {"model": "demo", "prompt": ["one", "two"], "echo": True}


@pytest.fixture
def fake() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def engine(fake: FakeEngine) -> Iterator[str]:
    with running(fake.app(), grace_s=0) as port:
        yield f"127.0.0.1:{port}"


def test_prompts_are_answered_together_and_in_their_order(engine: str, fake: FakeEngine) -> None:
    reply = ask(engine, COMPLETIONS, {**GOOD, "user": "ada"})
    assert reply.status == 200
    assert reply.headers["x-modelengine-prompt"] == "sent as a user message"
    assert reply.headers["x-modelengine-ignored"] == "user"
    answer = typed(Completion, reply.body)
    assert [choice.text for choice in answer.choices] == ["oneHello world!", "twoHello world!"]
    assert sorted(request.messages[0].content or "" for request in fake.requests) == ["one", "two"]


def test_streamed_prompts_are_told_apart_by_their_index(engine: str) -> None:
    reply = ask(engine, COMPLETIONS, {**GOOD, "stream": True})
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert reply.headers["x-modelengine-prompt"] == "sent as a user message"
    texts = {0: "", 1: ""}
    for chunk in completions(reply.body):
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    assert texts == {0: "oneHello world!", 1: "twoHello world!"}


def test_a_prompt_of_token_ids_is_a_400_that_says_so(engine: str) -> None:
    reply = ask(engine, COMPLETIONS, {**GOOD, "prompt": [1, 2, 3]})
    assert reply.status == 400
    assert error_of(reply.body)["param"] == "prompt[0]"


@pytest.mark.parametrize(
    ("native", "field"),
    [("messages[0].content", "prompt"), ("options.max_new_tokens", "max_tokens"), ("options.top_logprobs", "logprobs")],
)
def test_what_an_engine_refuses_is_told_in_the_request_s_names(
    engine: str, fake: FakeEngine, native: str, field: str
) -> None:
    fake.refusal = errors.InvalidRequest(f"{native}: no")
    error = error_of(ask(engine, "/v1/completions", {"model": "demo", "prompt": "hi"}).body)
    assert (error["message"], error["param"]) == (f"{field}: no", field)
