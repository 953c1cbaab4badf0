"""An engine's load as it changes, `GET /load`: what front doors follow, so that several of them agree who is free.

A stream of lines, as all of ours: one at once, one whenever the load has changed, at most every EVERY_S, and one at
least every KEEP_ALIVE_S, so that silence means that nobody is there. It ends when the engine takes no more requests.
Told and not asked for: with 100 replicas and 3 front doors, asking as often would take a front door a third of a core;
what changes is told for a twentieth, and an engine's part of it is a thousandth.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from fastapi import APIRouter, Response

from modelengine import wire
from modelengine.protocol import EngineLoad, to_json
from modelengine_api import streaming

PATH = "/load"
EVERY_S = 0.05
KEEP_ALIVE_S = 2.0
# Streams fill the cache block by block; that alone is told in steps of so much.
CACHE_STEP = 0.05

# The load now; raises a ModelEngineError where no request is taken.
ReadLoad = Callable[[], EngineLoad]
IsOver = Callable[[], bool]


def route(read: ReadLoad, is_over: IsOver) -> APIRouter:
    """`is_over`: no request is taken any more, so nobody needs to know."""
    router = APIRouter()

    @router.get(PATH, include_in_schema=False)
    async def load() -> Response:
        return streaming.LineStream(lines(read, is_over))

    return router


async def lines(read: ReadLoad, is_over: IsOver) -> AsyncIterator[bytes]:
    clock = asyncio.get_running_loop().time
    told, told_at = None, clock()
    while told is None or not is_over():
        load = _in_steps(read())
        if load != told or clock() - told_at >= KEEP_ALIVE_S:
            told, told_at = load, clock()
            yield wire.encode_line(wire.ok(to_json(load)))
        await asyncio.sleep(EVERY_S)


def _in_steps(load: EngineLoad) -> EngineLoad:
    return EngineLoad(load.running, load.waiting, round(round(load.cache_usage / CACHE_STEP) * CACHE_STEP, 3))
