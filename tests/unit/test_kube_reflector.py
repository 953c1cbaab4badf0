"""A copy that stays true, however lists and watches end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from modelengine_kube import errors, reflector, resources
from modelengine_kube.api import Event, Listing
from modelengine_kube.copies import Key
from modelengine_kube.reflector import Reflector
from modelengine_kube.resources import Resource

Object = dict[str, Any]


def pod(name: str, version: int) -> Object:
    return {"metadata": {"namespace": "team", "name": name, "resourceVersion": str(version)}}


class Api:
    """Lists what is there. Each watch tells what the test puts into `events`, and ends or breaks with what it puts."""

    def __init__(self) -> None:
        self.there = [pod("old", 5)]
        self.version = 10
        self.events: asyncio.Queue[Event | Exception | None] = asyncio.Queue()
        self.failures: list[Exception] = []
        self.asked: list[tuple[str, Object]] = []

    async def list(self, resource: Resource, namespace: str | None, **select: str) -> Listing:
        assert (resource, namespace) == (resources.PODS, "team")
        self.asked.append(("list", select))
        if self.failures:
            raise self.failures.pop(0)
        return Listing(self.there, str(self.version))

    async def watch(
        self, resource: Resource, namespace: str | None, version: str, *, seconds: float, **select: str
    ) -> AsyncIterator[Event]:
        self.asked.append((f"watch from {version} for {seconds:g} s", select))
        while (event := await self.events.get()) is not None:
            if isinstance(event, Exception):
                raise event
            yield event

    @property
    def lists(self) -> int:
        return sum(what == "list" for what, _ in self.asked)


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What is slept; the sleep itself is short."""
    found: list[float] = []
    sleep = asyncio.sleep

    class Asyncio:
        def __getattr__(self, name: str) -> Any:
            return getattr(asyncio, name)

        async def sleep(self, delay_s: float) -> None:
            found.append(delay_s)
            await sleep(0.001)

    monkeypatch.setattr(reflector, "asyncio", Asyncio())
    monkeypatch.setattr(reflector.random, "uniform", lambda low, high: high)
    return found


@pytest.fixture
async def following(api: Api, clock: Clock, pauses: list[float]) -> AsyncIterator[Reflector]:
    changes: list[tuple[Key, Object | None]] = []
    one = Reflector(
        api, resources.PODS, "team", lambda key, obj: changes.append((key, obj)), labels="a=b", resync_s=60, clock=clock
    )
    task = asyncio.create_task(one.run_forever())
    yield one
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def until(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not check():
            await asyncio.sleep(0.001)


def names(one: Reflector) -> set[str]:
    return {name for _, name in one.objects}


def test_before_the_first_list_nothing_is_known(api: Api, clock: Clock) -> None:
    one = Reflector(api, resources.PODS, "team", lambda key, obj: None, clock=clock)
    assert (one.is_synced, one.age_s, one.failure, one.objects) == (False, float("inf"), None, {})


async def test_it_lists_and_watches_from_there(api: Api, following: Reflector) -> None:
    await asyncio.wait_for(following.wait_synced(), 2)
    assert following.is_synced
    assert names(following) == {"old"}
    await until(lambda: len(api.asked) == 2)
    assert api.asked == [
        ("list", {"labels": "a=b", "fields": ""}),
        ("watch from 10 for 60 s", {"labels": "a=b", "fields": ""}),
    ]


async def test_it_follows_each_change(api: Api, following: Reflector) -> None:
    api.events.put_nowait(Event("ADDED", pod("a", 11)))
    await until(lambda: names(following) == {"old", "a"})
    api.events.put_nowait(Event("MODIFIED", pod("a", 12)))
    api.events.put_nowait(Event("ADDED", pod("b", 13)))
    await until(lambda: names(following) == {"old", "a", "b"})
    assert following.objects["team", "a"]["metadata"]["resourceVersion"] == "12"
    api.events.put_nowait(Event("BOOKMARK", {"metadata": {"resourceVersion": "20"}}))
    api.events.put_nowait(Event("DELETED", pod("a", 21)))
    await until(lambda: names(following) == {"old", "b"})


async def test_what_a_write_answered_counts_at_once(api: Api, following: Reflector) -> None:
    await asyncio.wait_for(following.wait_synced(), 2)
    following.learn(pod("a", 15))
    assert names(following) == {"old", "a"}
    api.events.put_nowait(Event("ADDED", pod("a", 14)))
    api.events.put_nowait(Event("ADDED", pod("b", 16)))
    await until(lambda: names(following) == {"old", "a", "b"})
    assert following.objects["team", "a"]["metadata"]["resourceVersion"] == "15"


@pytest.mark.parametrize(
    "end",
    [None, errors.Gone("too old"), errors.Unreachable("cut"), errors.Forbidden("no")],
    ids=lambda e: type(e).__name__,
)
async def test_however_a_watch_ends_it_lists_again(api: Api, following: Reflector, end: Exception | None) -> None:
    await asyncio.wait_for(following.wait_synced(), 2)
    api.there, api.version = [pod("new", 20)], 20
    api.events.put_nowait(end)
    await until(lambda: names(following) == {"new"})
    assert following.failure is None
    await until(lambda: api.asked[-1][0] == "watch from 20 for 60 s")


async def test_while_lists_fail_what_is_known_stays_and_the_failure_is_told(
    api: Api, following: Reflector, pauses: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    await asyncio.wait_for(following.wait_synced(), 2)
    api.failures = [errors.Unreachable("away")] * 9
    api.events.put_nowait(errors.Unreachable("cut"))
    await until(lambda: following.failure is not None and following.failure.message == "away")
    assert names(following) == {"old"}
    await until(lambda: not api.failures and following.failure is None)
    assert pauses == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0, 10.0, 10.0]
    assert "pods: away; listing again" in caplog.text


async def test_a_server_that_ends_each_watch_at_once_is_not_asked_in_a_circle(
    api: Api, following: Reflector, pauses: list[float]
) -> None:
    for _ in range(8):
        api.events.put_nowait(None)
    await until(lambda: api.lists == 9)
    assert pauses == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]


async def test_after_a_long_watch_it_is_asked_soon_again(
    api: Api, following: Reflector, clock: Clock, pauses: list[float]
) -> None:
    for _ in range(4):
        api.events.put_nowait(None)
    await until(lambda: api.lists == 5)
    clock.now_s += 60
    api.events.put_nowait(None)
    await until(lambda: api.lists == 6)
    assert pauses[-1] == 0.2


async def test_a_server_that_says_when_to_come_again_is_left_alone_until_then(
    api: Api, following: Reflector, pauses: list[float]
) -> None:
    await asyncio.wait_for(following.wait_synced(), 2)
    api.events.put_nowait(errors.Throttled("later", retry_after_s=33.0))
    await until(lambda: api.lists == 2)
    assert pauses == [33.0]


async def test_its_age_is_the_time_since_the_last_word(api: Api, following: Reflector, clock: Clock) -> None:
    await asyncio.wait_for(following.wait_synced(), 2)
    clock.now_s += 30
    assert following.age_s == 30
    api.events.put_nowait(Event("BOOKMARK", {"metadata": {"resourceVersion": "20"}}))
    await until(lambda: following.age_s == 0)


async def test_that_a_watch_fell_behind_is_no_warning(
    api: Api, following: Reflector, caplog: pytest.LogCaptureFixture
) -> None:
    await asyncio.wait_for(following.wait_synced(), 2)
    api.events.put_nowait(errors.Gone("too old"))
    await until(lambda: api.lists == 2)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
