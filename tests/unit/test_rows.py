"""From texts to rows: in slices between which others have their turn, with prompts, and never with nothing in them."""

import asyncio
import threading
from base64 import b64encode
from dataclasses import replace

import pytest

from fake_encoder import Bytes, FakeEncoder
from modelengine import errors
from modelengine.protocol import RERANK
from modelengine.vectors import EmbedOptions, EmbedRequest, RerankOptions, RerankRequest
from modelengine_runtime import encoding, rows
from modelengine_runtime.encoding import EncodingEngine, EncodingLimits

LIMITS = EncodingLimits(max_running=2, max_waiting=2, step_tokens=1000)


class Noted(Bytes):
    """Notes how many texts it takes at once, and waits before them until it may."""

    def __init__(self):
        self.calls = []
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def __deepcopy__(self, memo):
        return self

    def __call__(self, texts, pairs=None, **more):
        self.calls.append(len(texts))
        self.may_go_on.wait(10)
        return super().__call__(texts, pairs, **more)


@pytest.fixture
def tokenizer():
    return Noted()


@pytest.fixture
def engine(tokenizer):
    engine = EncodingEngine(replace(FakeEncoder().loaded(), tokenizer=tokenizer), LIMITS)
    yield engine
    tokenizer.may_go_on.set()
    engine.stop()


def prompted(prompt, pools_prompt=False):
    """A model that takes 100 tokens, 0 at the end included."""
    return replace(FakeEncoder().loaded(), prompts={"p": prompt}, default_prompt="p", pools_prompt=pools_prompt)


def asked(*texts, **options):
    return EmbedRequest("fake", texts, EmbedOptions(**options))


def taken(slices):
    while True:
        try:
            next(slices)
        except StopIteration as end:
            return end.value


def test_a_slice_has_so_many_texts_or_characters():
    assert [list(numbers) for numbers in rows.slices([1, 2])] == [[0, 1]]
    assert [len(numbers) for numbers in rows.slices([1] * 130)] == [64, 64, 2]
    half = rows.SLICE_CHARACTERS // 2
    assert [list(numbers) for numbers in rows.slices([half, half, 1, 9 * half, 1])] == [[0, 1], [2], [3], [4]]


def test_slices_make_the_rows_that_one_piece_makes(tokenizer):
    texts = [chr(ord("a") + i % 26) * (1 + i % 150) for i in range(300)]
    found = taken(rows.of_embed(tokenizer, FakeEncoder().loaded(), asked(*texts, truncate=True)))
    assert [len(row.token_ids) for row in found.rows] == [min(100, len(text) + 1) for text in texts]
    assert [row.token_ids[0] for row in found.rows] == [ord(text[0]) for text in texts]
    assert found.truncated == sum(len(text) > 99 for text in texts)
    assert max(tokenizer.calls) == 64


def test_documents_are_taken_in_slices_too(tokenizer):
    wanted = RerankRequest("fake", "q", ("d" * 10,) * 100, RerankOptions())
    assert taken(rows.of_rerank(tokenizer, FakeEncoder(RERANK).loaded(), wanted)).tokens == 100 * 13
    assert tokenizer.calls == [1, 64, 36]


def test_the_first_text_that_is_too_long_ends_the_work(tokenizer):
    with pytest.raises(errors.InvalidRequest, match=r"inputs\[70\]: has 201 tokens, the model takes 100"):
        taken(rows.of_embed(tokenizer, FakeEncoder().loaded(), asked(*["a"] * 70, "b" * 200, *["c"] * 200)))
    assert tokenizer.calls == [64, 64]


async def test_a_short_request_overtakes_the_slices_of_a_long_one(engine, tokenizer):
    tokenizer.may_go_on.clear()
    long = asyncio.create_task(engine.embed(asked(*["a"] * 1000)))
    await asyncio.sleep(0.05)
    short = asyncio.create_task(engine.embed(asked("b")))
    await asyncio.sleep(0.05)
    assert (engine.load.running, engine.load.waiting) == (0, 2)
    tokenizer.may_go_on.set()
    assert len((await short)["vectors"]) == 1
    assert len((await long)["vectors"]) == 1000
    assert tokenizer.calls[:3] == [64, 1, 64]
    assert engine.load.waiting == 0


async def test_who_leaves_has_no_more_of_his_texts_tokenized(engine, tokenizer):
    tokenizer.may_go_on.clear()
    long = asyncio.create_task(engine.embed(asked(*["a"] * 1000)))
    await asyncio.sleep(0.05)
    long.cancel()
    await asyncio.wait([long])
    assert engine.load.waiting == 0
    tokenizer.may_go_on.set()
    await engine.embed(asked("b"))
    assert tokenizer.calls == [64, 1]


async def test_vectors_are_written_beside_the_event_loop(engine, monkeypatch):
    threads = []

    def noted(vector):
        threads.append(threading.current_thread())
        return b64encode(vector)

    monkeypatch.setattr(encoding, "b64encode", noted)
    await engine.embed(asked("a", "b"))
    assert len(threads) == 2
    assert threading.current_thread() not in threads


async def test_more_tokens_than_the_queue_may_have_are_told_to_come_again(engine, monkeypatch):
    monkeypatch.setattr(encoding, "MAX_TOKENS", 100)
    engine.model.runner.pause_s = 0.2
    first = asyncio.create_task(engine.embed(asked("a" * 59)))
    await asyncio.sleep(0.05)
    with pytest.raises(errors.Busy, match="it has 60 tokens, with the request's 41 more than 100") as busy:
        await engine.embed(asked("b" * 40))
    assert busy.value.retry_after_s
    fitting = await engine.embed(asked("c" * 39))
    assert (fitting["prompt_tokens"], (await first)["prompt_tokens"]) == (40, 60)
    # Alone anybody may have more.
    assert (await engine.embed(asked("d" * 90, "e" * 90)))["prompt_tokens"] == 182
    assert (engine.load.running, engine.load.waiting) == (0, 0)


@pytest.mark.parametrize("pools_prompt", [True, False])
def test_a_prompt_that_leaves_no_room_is_refused_as_nothing_of_a_text_would_be_left(pools_prompt):
    for truncate in (True, False):
        with pytest.raises(errors.InvalidRequest, match=r"options\.prompt_name: the prompt has 100 tokens, the model"):
            taken(rows.of_embed(Bytes(), prompted("p" * 99, pools_prompt), asked("text", truncate=truncate)))
    found = taken(rows.of_embed(Bytes(), prompted("p" * 98, pools_prompt), asked("text", truncate=True)))
    assert bytes(found.rows[0].token_ids.tolist()) == b"p" * 98 + b"t\0"
    assert found.rows[0].skipped == (0 if pools_prompt else 98)


def test_a_text_of_which_nothing_counts_is_refused():
    with pytest.raises(errors.InvalidRequest, match=r"inputs\[1\]: the model's tokenizer makes nothing of it"):
        taken(rows.of_embed(Bytes(), prompted("ab  "), asked("text", " ")))
