"""The `openai` package's asynchronous client against a live front door and engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import jsonschema
import openai
import pytest

from callers import ask, until
from json_schemas import schema

ANSWER = "12 + 30 = 42"
GREEDY: Any = {
    "model": "demo",
    "messages": [{"role": "user", "content": "What is 12 + 30?"}],
    "temperature": 0,
    "max_tokens": 40,
}
SCHEMAS, AT_ONCE = 200, 24
LONG: Any = {"model": "demo", "messages": [{"role": "user", "content": "Count from 1 to 300."}], "max_tokens": 900}


@pytest.fixture
async def client(front_door_address: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"http://{front_door_address}/v1", api_key="none", max_retries=0) as client:
        yield client


def running(address: str) -> int:
    count: int = ask(address, "/engine/info", {"model": "demo"}).msg["load"]["running"]
    return count


async def test_models_are_listed(client: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == ["demo"]


async def test_chats_at_once_each_get_their_answer(client: openai.AsyncOpenAI) -> None:
    answers = await asyncio.gather(*(client.chat.completions.create(**GREEDY) for _ in range(16)))
    assert [answer.choices[0].message.content for answer in answers] == [ANSWER] * 16


async def test_a_stream_says_the_same(client: openai.AsyncOpenAI) -> None:
    async with await client.chat.completions.create(**GREEDY, stream=True) as stream:
        assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == ANSWER


async def test_a_response_is_streamed_in_typed_events(client: openai.AsyncOpenAI) -> None:
    async with client.responses.stream(model="demo", input="What is 12 + 30?", temperature=0) as stream:
        kinds = [event.type async for event in stream]
        assert (await stream.get_final_response()).output_text == ANSWER
    assert kinds[:2] == ["response.created", "response.in_progress"]


async def test_a_failure_is_the_package_s_own_error(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="did you mean 'demo'"):
        await client.chat.completions.create(**{**GREEDY, "model": "dem"})


async def test_a_task_that_is_cancelled_frees_its_slots(client: openai.AsyncOpenAI, front_door_address: str) -> None:
    chat = asyncio.create_task(client.chat.completions.create(**LONG, n=3))
    while await asyncio.to_thread(running, front_door_address) < 3:
        assert not chat.done(), chat.result()
        await asyncio.sleep(0.01)
    chat.cancel()
    await asyncio.wait([chat])
    assert await asyncio.to_thread(until, lambda: running(front_door_address) == 0)


async def test_answers_to_two_hundred_schemas_are_all_valid(client: openai.AsyncOpenAI) -> None:
    free = asyncio.Semaphore(AT_ONCE)

    async def cut(seed: int) -> bool:
        """Whether the answer ran out of tokens; one that did not is valid."""
        form: Any = {"name": "made_up", "schema": schema(seed), "strict": True}
        asked = {"model": "demo", "temperature": 1}
        async with free:
            if seed % 2:
                text: Any = {"format": {"type": "json_schema", **form}}
                response = await client.responses.create(
                    **asked, input=f"Anna is {seed}.", text=text, max_output_tokens=300
                )
                said, is_cut = response.output_text, response.status == "incomplete"
            else:
                chat = await client.chat.completions.create(
                    **asked,
                    messages=[{"role": "user", "content": f"Anna is {seed}."}],
                    response_format={"type": "json_schema", "json_schema": form},
                    max_tokens=300,
                    seed=seed,
                )
                said, is_cut = chat.choices[0].message.content or "", chat.choices[0].finish_reason == "length"
        if not is_cut:
            jsonschema.validate(json.loads(said), schema(seed))
        return is_cut

    # A text or number without a bound goes on for ever when a toy falls into counting.
    assert sum(await asyncio.gather(*(cut(seed) for seed in range(SCHEMAS)))) < SCHEMAS // 4
