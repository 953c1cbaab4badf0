"""A request that brings the tokens of an answer that broke off, from its body to its last part."""

import json
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from fakes import FakeRunner, fake_model
from modelengine import errors
from modelengine.chat_request import chat_request
from modelengine.chats import ChatRequest, Resume
from modelengine.protocol import to_json
from modelengine_api.bodies import Reader
from modelengine_runtime import answers
from modelengine_runtime.answers import Renderer
from modelengine_runtime.engine import Engine
from modelengine_runtime.parsing import AnswerParser
from modelengine_runtime.scheduler import Limits
from modelengine_runtime.sequence import End, Part


@pytest.fixture
def engine():
    engine = Engine(replace(fake_model(FakeRunner()), vocabulary=256), Limits(4, 4, 64, kv_blocks=100))
    yield engine
    engine.stop()


def asked(resume=None, **options):
    return chat_request("fake", [{"role": "user", "content": "hello"}], None, options, True, resume)


def tokens(text):
    return {"token_ids": tuple(text.encode())}


async def events(engine, request):
    accepted = await engine.accept(request)
    assert accepted.prompt_length == 5
    return [event async for event in accepted.events]


def test_the_runner_is_told_how_many_blocks_there_are(engine):
    assert engine.model.runner.kv_blocks == 100


async def test_the_answer_goes_on_behind_the_tokens_that_came(engine):
    whole = await events(engine, asked(max_new_tokens=6))
    rest = await events(engine, asked(tokens("fgh"), max_new_tokens=6))
    assert rest == whole[3:]
    assert rest[0] == Part(3, (ord("i"),), "i", 4)


async def test_the_first_tokens_of_a_stop_string_may_have_come_before(engine):
    rest = await events(engine, asked(tokens("fgh"), max_new_tokens=20, stop=["hij"]))
    assert [type(event) for event in rest] == [End]
    assert (rest[0].reason, rest[0].length) == ("stop", 5)


async def test_an_answer_that_was_complete_gives_only_its_end_and_no_step_is_run(engine):
    [end] = await events(engine, asked(tokens("fgh"), max_new_tokens=3))
    assert (end.reason, end.index, end.length) == ("length", 3, 3)
    assert engine.model.runner.steps == []


async def test_no_tokens_at_all_are_a_new_request(engine):
    assert await events(engine, asked(tokens(""), max_new_tokens=6)) == await events(engine, asked(max_new_tokens=6))


def test_text_that_the_end_sets_free_has_no_tokens_that_a_parser_still_held_back():
    renderer = Renderer("fake", 5, 0, parser=AnswerParser(Holding()))
    [] = renderer.messages(Part(0, (1,), "<", 1))
    [freed] = renderer.messages(Part(1, (), "\n", 1))
    [last] = renderer.messages(End("stop", 1, (2,), 2))
    assert (freed["content"], list(freed["token_ids"]), last["token_ids"]) == ("<\n", [], [1, 2])


async def test_the_reply_counts_the_prompt_alone_and_the_whole_answer(engine):
    rest = await events(engine, asked(tokens("fgh"), max_new_tokens=6))
    renderer = Renderer("fake", 5, 0)
    whole = answers.whole([message for event in rest for message in renderer.messages(event)])
    assert (whole["prompt_length"], whole["response_length"], whole["content"]) == (5, 6, "ijk")


@pytest.mark.parametrize(
    ("token_ids", "says"),
    [
        ((97, 256), r"resume\.token_ids\[1\]: must be less than 256, the model's vocabulary, got 256"),
        ((97,) * 6, r"resume\.token_ids: must have at most 5 items, as many as the answer may have tokens, got 6"),
    ],
)
async def test_tokens_that_this_model_can_t_have_said_are_refused(engine, token_ids, says):
    with pytest.raises(errors.InvalidRequest, match=says):
        await engine.accept(asked(Resume(token_ids), max_new_tokens=5))


class Holding:
    """Regions of an answer that hold a `<` back until it is no mark."""

    initial_events: ClassVar[list[Any]] = []
    held = ""

    def feed(self, text):
        text, self.held = self.held + text, ""
        if text == "<":
            self.held, text = text, ""
        return [{"type": "region_chunk", "field": "content", "text": text}] if text else []

    def end(self):
        return []


def test_the_body_carries_the_tokens():
    request = asked(tokens("ab"))
    assert Reader(ChatRequest).parse(json.dumps(to_json(request)).encode()) == request


@pytest.mark.parametrize(
    ("resume", "sentence"),
    [
        ({}, "resume.token_ids: is required"),
        ({"token_ids": [-1]}, "resume.token_ids[0]: must be at least 0, got -1"),
        ({"token_ids": [1, "a"]}, 'resume.token_ids[1]: must be a whole number, got "a"'),
        ({"token_ids": [2**31]}, f"resume.token_ids[0]: must be at most {2**31 - 1}, got {2**31}"),
        ({"token_ids": 5}, "resume.token_ids: must be a list, got 5"),
        ({"tokens": [1]}, "resume.tokens: unknown; did you mean 'token_ids'? known are token_ids"),
        ([1], "resume: must be an object, got [1]"),
    ],
)
def test_a_wrong_body_is_told_the_field(resume, sentence):
    body = {"model": "fake", "messages": [{"role": "user"}], "resume": resume}
    with pytest.raises(errors.InvalidRequest) as failure:
        Reader(ChatRequest).parse(json.dumps(body).encode())
    assert sentence in [failure.value.message, *(f"{item['loc']}: {item['msg']}" for item in failure.value.details)]


def test_a_field_that_the_protocol_does_not_have_is_told_before_anything_is_sent():
    with pytest.raises(errors.InvalidRequest, match=r"resume\.tokens: unknown; known are token_ids"):
        asked({"tokens": (1,)})
