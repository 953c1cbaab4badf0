"""What an engine counts as taken, from the moment that a request comes: before it is tokenized."""

import asyncio
import threading
from dataclasses import replace

import pytest

from fakes import ByteTokenizer, FakeRunner, fake_model
from modelengine import errors
from modelengine.chat_request import chat_request
from modelengine_runtime.engine import Engine
from modelengine_runtime.places import Places
from modelengine_runtime.scheduler import Limits


class Slow(ByteTokenizer):
    """Begins when it is told to, and fails at a `?`."""

    may_begin = threading.Event()

    def apply_chat_template(self, conversation, **more):
        self.may_begin.wait(10)
        if "?" in conversation[-1]["content"]:
            raise TypeError("a question")
        return super().apply_chat_template(conversation, **more)


@pytest.fixture
def engine():
    Slow.may_begin.clear()
    engine = Engine(replace(fake_model(FakeRunner()), tokenizer=Slow()), Limits(1, 1, 64, kv_blocks=100))
    yield engine
    Slow.may_begin.set()
    engine.stop()


def asked(text="hello", **options):
    return chat_request("fake", [{"role": "user", "content": text}], None, {"max_new_tokens": 3} | options, True)


async def answered(engine, request):
    accepted = await engine.accept(request)
    return [event async for event in accepted.events]


def load(engine):
    return engine.load.running, engine.load.waiting


def test_a_place_is_given_back_once():
    places = Places(1)
    with places.take() as place:
        with pytest.raises(errors.Busy, match="the queue is full: 1 requests are in work or wait") as full:
            places.take()
        assert full.value.retry_after_s == 1.0
        place.give_back()
    assert places.taken == 0


async def test_requests_that_are_being_tokenized_are_load_and_bounded(engine):
    coming = [asyncio.create_task(answered(engine, asked())) for _ in range(2)]
    await asyncio.sleep(0)
    assert load(engine) == (0, 2)
    with pytest.raises(errors.Busy, match="the queue is full: 2 requests"):
        await engine.accept(asked())
    Slow.may_begin.set()
    await asyncio.gather(*coming)
    assert load(engine) == (0, 0)


async def test_what_fails_or_is_given_up_before_it_is_queued_gives_its_place_back(engine):
    failing = asyncio.create_task(answered(engine, asked("who?")))
    leaving = asyncio.create_task(answered(engine, asked()))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait([leaving])
    assert load(engine) == (0, 1)
    Slow.may_begin.set()
    with pytest.raises(errors.InvalidRequest, match="a question"):
        await failing
    assert load(engine) == (0, 0)
    for refused in (asked(logit_bias={1: 1.0}, seed=1), asked("a" * 2000)):
        with pytest.raises(errors.InvalidRequest):
            await answered(replaced(engine), refused)
        assert load(engine) == (0, 0)


def replaced(engine):
    """With a vocabulary of one token."""
    engine.model = replace(engine.model, vocabulary=1)
    return engine


async def test_an_answer_that_is_left_or_nobody_reads_on_has_no_place(engine):
    Slow.may_begin.set()
    left = await engine.accept(asked(max_new_tokens=900))
    await anext(left.events)
    assert engine.load.running + engine.load.waiting == 1
    await left.events.aclose()
    unread = await engine.accept(asked())
    await anext(unread.events)
    async with asyncio.timeout(5):
        while engine.load.running + engine.load.waiting:
            await asyncio.sleep(0.01)
    # Both places are free.
    await asyncio.gather(answered(engine, asked()), answered(engine, asked()))
    await unread.events.aclose()
