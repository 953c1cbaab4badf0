"""What the `openai` package makes of an engine that is full, gone or breaks: a fake one, which does so on demand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import openai
import pytest
from langchain_openai import ChatOpenAI

from fakes import FakeEngine
from modelengine import errors
from servers import running

CHAT: Any = {"model": "demo", "messages": [{"role": "user", "content": "hi"}]}


@contextmanager
def client_of(fake: FakeEngine, max_retries: int = 0) -> Iterator[openai.OpenAI]:
    with (
        running(fake.app(), grace_s=0) as port,
        openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=max_retries) as client,
    ):
        yield client


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        (errors.InvalidRequest("no"), openai.BadRequestError),
        (errors.Unauthorized("no"), openai.AuthenticationError),
        (errors.Forbidden("no"), openai.PermissionDeniedError),
        (errors.NotFound("no"), openai.NotFoundError),
        (errors.RateLimited("no"), openai.RateLimitError),
        (errors.Busy("no"), openai.RateLimitError),
        (errors.RequestFailed("no"), openai.InternalServerError),
        (errors.Unavailable("no"), openai.InternalServerError),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal_is_the_exception_of_its_status(
    refusal: errors.ModelEngineError, kind: type[openai.APIStatusError], stream: bool
) -> None:
    with client_of(FakeEngine(refusal=refusal)) as client, pytest.raises(kind) as failure:
        client.chat.completions.create(**CHAT, stream=stream)
    assert failure.value.code == {401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded"}.get(
        refusal.status, "invalid_value" if refusal.status == 400 else refusal.code
    )


def test_the_package_comes_again_when_an_engine_was_full() -> None:
    class FullOnce(FakeEngine):
        async def whole(self, request: Any) -> Any:
            self.refusal = None if self.requests else errors.Busy("full", retry_after_s=0.1)
            return await super().whole(request)

    fake = FullOnce()
    with client_of(fake, max_retries=1) as client:
        assert client.chat.completions.create(**CHAT).choices[0].message.content == "Hello world!"
    assert len(fake.requests) == 2


def test_a_stream_that_breaks_raises_after_what_had_come() -> None:
    said: list[str] = []
    with client_of(FakeEngine(break_after=2)) as client, client.chat.completions.create(**CHAT, stream=True) as stream:
        texts = (chunk.choices[0].delta.content or "" for chunk in stream)
        with pytest.raises(openai.APIError, match="the fake broke") as failure:
            said.extend(texts)
    assert "".join(said) == "Hello "
    assert failure.value.code == "request_failed"


def test_a_completion_that_breaks_raises_too() -> None:
    with client_of(FakeEngine(break_after=2)) as client:
        stream = client.completions.create(model="demo", prompt="hi", stream=True)
        with stream, pytest.raises(openai.APIError, match="the fake broke"):
            list(stream)


def test_a_response_that_breaks_has_failed_as_its_last_event_says() -> None:
    with client_of(FakeEngine(break_after=2)) as client:
        *_, last = client.responses.create(model="demo", input="hi", stream=True)
        assert last.type == "response.failed"
        assert last.response.error is not None
        assert last.response.error.message == "the fake broke"


@pytest.mark.parametrize("uses_responses", [False, True])
def test_langchain_raises_when_a_stream_breaks(uses_responses: bool) -> None:
    with running(FakeEngine(break_after=2).app(), grace_s=0) as port:
        model = ChatOpenAI(
            model="demo", base_url=f"http://127.0.0.1:{port}/v1", api_key="none", use_responses_api=uses_responses
        )
        with pytest.raises((openai.APIError, ValueError), match="the fake broke"):
            list(model.stream("hi"))
