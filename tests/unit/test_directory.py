"""The living directory without a network: probes and clock are the test's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from modelengine import errors
from modelengine.protocol import ServerInfo
from modelengine.registry import Registry
from modelengine_gateway.leases import Leases

INFO = ServerInfo("demo", "127.0.0.1", 1)
LEASE_S = 0.4


class World:
    """Answers probes as told, when told, and can make time jump."""

    def __init__(self) -> None:
        self.is_up = True
        self.answer_now = asyncio.Event()
        self.answer_now.set()
        self.probes = 0
        self.jump_s = 0.0

    async def probe(self, info: ServerInfo) -> bool:
        self.probes += 1
        await self.answer_now.wait()
        return self.is_up

    def clock(self) -> float:
        return time.monotonic() + self.jump_s


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def directory(world: World) -> AsyncIterator[Leases]:
    directory = Leases(Registry(LEASE_S), world.probe, world.clock)
    expiring = asyncio.create_task(directory.keep())
    yield directory
    expiring.cancel()
    with suppress(asyncio.CancelledError):
        await expiring


@pytest.mark.parametrize("steps", range(6))
async def test_an_engine_that_leaves_just_when_it_has_answered_is_not_listed(
    directory: Leases, world: World, steps: int
) -> None:
    """However many turns of the event loop lie between the answer and the farewell."""
    world.answer_now.clear()
    registering = asyncio.create_task(directory.register(INFO))
    await asyncio.sleep(0.01)
    world.answer_now.set()
    for _ in range(steps):
        await asyncio.sleep(0)
    directory.deregister(INFO)
    with suppress(errors.Unavailable):
        await registering
    assert directory.all() == []


async def test_an_engine_that_leaves_while_it_is_being_asked_is_not_listed(directory: Leases, world: World) -> None:
    world.answer_now.clear()
    registering = asyncio.create_task(directory.register(INFO))
    await asyncio.sleep(0.01)
    directory.deregister(INFO)
    world.answer_now.set()
    with pytest.raises(errors.Unavailable, match="not listed"):
        await registering
    assert directory.all() == []


async def test_an_engine_that_comes_twice_at_once_is_asked_once_and_listed_once(
    directory: Leases, world: World
) -> None:
    world.answer_now.clear()
    both = asyncio.gather(directory.register(INFO), directory.register(INFO))
    await asyncio.sleep(0.01)
    world.answer_now.set()
    await both
    assert (directory.all(), world.probes, directory.revision) == ([INFO], 1, 1)


async def test_a_hundred_reports_of_a_dead_engine_ask_it_once(directory: Leases, world: World) -> None:
    await directory.register(INFO)
    world.is_up = False
    world.answer_now.clear()
    reports = asyncio.gather(*(directory.report(INFO) for _ in range(100)))
    await asyncio.sleep(0.01)
    world.answer_now.set()
    assert await reports == [False] * 100
    assert world.probes == 2
    assert directory.all() == []


async def test_a_waiter_who_gives_up_does_not_end_the_probe_of_another(directory: Leases, world: World) -> None:
    world.answer_now.clear()
    impatient = asyncio.create_task(directory.register(INFO))
    patient = asyncio.create_task(directory.register(INFO))
    await asyncio.sleep(0.01)
    impatient.cancel()
    world.answer_now.set()
    await patient
    assert directory.all() == [INFO]


async def test_a_lease_that_nobody_renews_ends_without_any_call(directory: Leases) -> None:
    await directory.register(INFO)
    started = time.monotonic()
    watch = directory.watch("chat", "demo")
    assert await anext(watch) == [INFO]
    assert await anext(watch) == []
    assert LEASE_S * 0.9 < time.monotonic() - started < LEASE_S + 0.3
    await watch.aclose()


async def test_after_a_sleep_of_the_whole_machine_engines_may_renew_before_they_are_judged(
    directory: Leases, world: World
) -> None:
    await directory.register(INFO)
    world.jump_s = 60
    await asyncio.sleep(LEASE_S + 0.05)
    assert directory.all() == [INFO]
    await directory.register(INFO)
    await asyncio.sleep(LEASE_S / 2 + 0.05)
    assert directory.all() == [INFO]
    await asyncio.sleep(LEASE_S)
    assert directory.all() == []


async def test_changes_that_come_while_a_watcher_is_busy_are_not_lost(directory: Leases) -> None:
    watch = directory.watch(None, None)
    assert await anext(watch) == []
    await directory.register(INFO)
    directory.deregister(INFO)
    other = ServerInfo("other", "127.0.0.1", 2)
    await directory.register(other)
    assert await anext(watch) == [other]
    await watch.aclose()


async def test_closing_ends_what_waits_now_and_what_comes_later(directory: Leases) -> None:
    waiting = asyncio.create_task(directory.wait("chat", "demo", 30))
    await asyncio.sleep(0.01)
    await directory.close()
    for late in (waiting, directory.wait("chat", "demo", 30)):
        with pytest.raises(errors.Unavailable, match="stopping"):
            await late
