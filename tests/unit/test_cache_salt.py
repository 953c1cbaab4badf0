"""Whose prompts meet in an engine's cache: those with the same salt, and nobody learns of the others by the count."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from fakes import FakeRunner, fake_model
from modelengine import errors
from modelengine.chats import ChatOptions, ChatRequest, Message
from modelengine_api.bodies import Reader
from modelengine_runtime.blocks import BLOCK_TOKENS
from modelengine_runtime.engine import Engine
from modelengine_runtime.scheduler import Limits

PROMPT = "a" * (3 * BLOCK_TOKENS + 1)


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine(fake_model(FakeRunner()), Limits(4, 4, 64, kv_blocks=100, has_prefix_cache=True))
    yield engine
    engine.stop()


async def cached_tokens(engine: Engine, salt: str | None) -> int:
    request = ChatRequest("fake", (Message("user", PROMPT),), options=ChatOptions(max_new_tokens=2), cache_salt=salt)
    accepted = await engine.accept(request)
    assert [event async for event in accepted.events]
    return accepted.usage().cached_tokens


async def test_what_another_has_asked_is_computed_anew(engine: Engine) -> None:
    found = [await cached_tokens(engine, salt) for salt in (None, None, "mine", "mine", "other", None)]
    assert found == [0, 3 * BLOCK_TOKENS, 0, 3 * BLOCK_TOKENS, 0, 3 * BLOCK_TOKENS]


@pytest.mark.parametrize("given", ["", 5, [], "x" * 257])
def test_what_is_no_salt_is_refused_by_name(given: object) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "cache_salt": given}
    with pytest.raises(errors.InvalidRequest, match=r"^cache_salt: must "):
        Reader(ChatRequest).parse(json.dumps(body).encode())
