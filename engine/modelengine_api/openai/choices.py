"""Several native answers at once, which is what OpenAI's `n` asks for. They live and end together: when the client
leaves, or one of them fails, the others are given up too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from modelengine.chats import ChatRequest
from modelengine_api import streaming
from modelengine_api.backend import Backend

# How much of each answer may wait for a reader who is slower than the engine.
AHEAD = 16


async def whole(backend: Backend, requests: Sequence[ChatRequest]) -> Sequence[Mapping[str, Any]]:
    """The whole answers, in the order of the requests."""
    if len(requests) == 1:
        return [await backend.whole(requests[0])]
    tasks = [asyncio.create_task(backend.whole(request)) for request in requests]
    try:
        return await asyncio.gather(*tasks)
    finally:
        await _give_up(tasks)


async def stream(backend: Backend, requests: Sequence[ChatRequest]) -> AsyncIterator[tuple[int, bytes]]:
    """The lines of all answers as they come, each with the number of its request."""
    if len(requests) == 1:
        async with streaming.closing(backend.stream(requests[0])) as answer:
            async for lines in answer:
                yield 0, lines
        return
    mailbox: asyncio.Queue[_Mail] = asyncio.Queue(AHEAD * len(requests))
    tasks = [asyncio.create_task(_post(backend, request, i, mailbox)) for i, request in enumerate(requests)]
    try:
        running = len(tasks)
        while running:
            number, mail = await mailbox.get()
            if isinstance(mail, Exception):
                raise mail
            if mail is None:
                running -= 1
            else:
                yield number, mail
    finally:
        await _give_up(tasks)


# Lines of the answer with this number, its end, or why it failed.
_Mail = tuple[int, bytes | Exception | None]


async def _post(backend: Backend, request: ChatRequest, number: int, mailbox: asyncio.Queue[_Mail]) -> None:
    try:
        async with streaming.closing(backend.stream(request)) as answer:
            async for lines in answer:
                await mailbox.put((number, lines))
        await mailbox.put((number, None))
    except Exception as failure:
        await mailbox.put((number, failure))


async def _give_up(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
