"""Lists beside the watch: what no event told is put right, and a watch that tells nothing is found out."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

import samples
from modelengine_kube import errors, resources
from modelengine_kube.api import Listing
from modelengine_kube.copies import Copy, Key
from modelengine_kube.resources import Resource
from modelengine_operator import relisting
from modelengine_operator.relisting import UNTOLD_LISTS, Relisting

Object = dict[str, Any]
# Also where a test counts what is slept.
TURN = asyncio.sleep


class ApiServer:
    """ModelEngines by namespace, and a version that grows."""

    def __init__(self) -> None:
        self.stored: dict[tuple[str, str], Object] = {}
        self.version = 10
        self.lists = 0
        self.failure: errors.KubeError | None = None

    async def list(self, resource: Resource, namespace: str | None) -> Listing:
        assert resource is resources.MODELENGINES
        self.lists += 1
        await TURN(0)
        if self.failure is not None:
            raise self.failure
        found = [obj for (ns, _), obj in self.stored.items() if namespace in (None, ns)]
        return Listing(found, str(self.version))

    def write(self, name: str, namespace: str = "team") -> Object:
        self.version += 1
        obj = samples.modelengine(name, namespace=namespace, resourceVersion=str(self.version))
        self.stored[namespace, name] = obj
        return obj

    def delete(self, name: str) -> Object:
        self.version += 1
        obj = self.stored.pop(("team", name))
        return {**obj, "metadata": obj["metadata"] | {"resourceVersion": str(self.version)}}


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relisting, "EVERY_S", 0.01)
    monkeypatch.setattr(relisting, "PATIENCE_S", 0.01)


@pytest.fixture
def server() -> ApiServer:
    return ApiServer()


class Changes(list[tuple[Key, bool]]):
    def __call__(self, key: Key, obj: Object | None) -> None:
        self.append((key, obj is not None))


@pytest.fixture
def changes() -> Changes:
    return Changes()


@pytest.fixture
def copy(changes: Changes) -> Copy:
    return Copy(changes)


@contextlib.asynccontextmanager
async def running(server: ApiServer, copy: Copy, *namespaces: str) -> AsyncIterator[Relisting]:
    found = Relisting(server, copy, namespaces)
    task = asyncio.create_task(found.run_forever())
    try:
        yield found
    finally:
        task.cancel()
        await asyncio.wait([task])


async def until(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not check():
            await asyncio.sleep(0.005)


async def lists(server: ApiServer, count: int = 3) -> None:
    """Until so many lists have begun and the first of them is compared."""
    wanted = server.lists + count
    await until(lambda: server.lists >= wanted)


def names(copy: Copy) -> set[str]:
    return {name for _, name in copy.objects}


async def test_the_first_list_is_known_at_once(server: ApiServer, copy: Copy) -> None:
    server.write("a")
    server.write("b", "elsewhere")
    async with running(server, copy) as found:
        await asyncio.wait_for(found.wait_synced(), 2)
        assert names(copy) == {"a", "b"}
        found.check()


async def test_only_the_namespaces_that_are_watched_are_listed(server: ApiServer, copy: Copy) -> None:
    for namespace in ("one", "two", "three"):
        server.write(f"of-{namespace}", namespace)
    async with running(server, copy, "one", "two") as found:
        await asyncio.wait_for(found.wait_synced(), 2)
        assert names(copy) == {"of-one", "of-two"}
        assert server.lists == 2


async def test_what_no_event_told_is_put_right(
    server: ApiServer, copy: Copy, changes: Changes, caplog: pytest.LogCaptureFixture
) -> None:
    server.write("a")
    server.write("b")
    async with running(server, copy) as found:
        await asyncio.wait_for(found.wait_synced(), 2)
        changes.clear()
        server.write("a")
        server.delete("b")
        server.write("c")
        await until(lambda: len(changes) == 3)
        assert sorted(changes) == [(("team", "a"), True), (("team", "b"), False), (("team", "c"), True)]
        await lists(server)
        found.check()
    assert "3 changes of modelengines that no event told" in caplog.text


async def test_what_an_event_told_meanwhile_is_no_news(
    server: ApiServer, copy: Copy, changes: Changes, caplog: pytest.LogCaptureFixture
) -> None:
    server.write("a")
    async with running(server, copy) as found:
        await asyncio.wait_for(found.wait_synced(), 2)
        for _ in range(2 * UNTOLD_LISTS):
            copy.learn(server.write("a"))
            copy.learn(server.write("b"))
            copy.forget(server.delete("b"))
            await lists(server, 1)
        found.check()
    assert caplog.text == ""
    assert names(copy) == {"a"}


async def test_a_watch_that_misses_what_several_lists_in_a_row_show_is_dead(server: ApiServer, copy: Copy) -> None:
    found = Relisting(server, copy, ())
    await found._compare()
    for _ in range(UNTOLD_LISTS):
        found.check()
        server.write("a")
        await found._compare()
    with pytest.raises(RuntimeError, match=f"told nothing of what {UNTOLD_LISTS} lists showed"):
        found.check()
    copy.learn(server.write("a"))
    await found._compare()
    found.check()


async def test_an_event_that_comes_a_moment_after_the_list_counts_as_told(
    server: ApiServer, copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relisting, "PATIENCE_S", 0.1)
    found = Relisting(server, copy, ())
    await asyncio.wait_for(found._compare(), 0.09)
    for _ in range(UNTOLD_LISTS):
        changed = server.write("a")
        comparing = asyncio.create_task(found._compare())
        await asyncio.sleep(0.02)
        copy.learn(changed)
        await comparing
    found.check()


async def test_the_first_list_of_many_is_not_held_against_the_watch(server: ApiServer, copy: Copy) -> None:
    for i in range(10):
        server.write(f"e{i}")
    async with running(server, copy) as found:
        await asyncio.wait_for(found.wait_synced(), 2)
        assert found._untold == 0


async def test_an_api_server_that_is_away_is_asked_again_and_nothing_is_forgotten(
    server: ApiServer, copy: Copy, caplog: pytest.LogCaptureFixture
) -> None:
    server.write("a")
    async with running(server, copy) as found:
        await asyncio.wait_for(found.wait_synced(), 2)
        server.failure = errors.Unreachable("away")
        await lists(server)
        assert names(copy) == {"a"}
        found.check()
        server.failure = None
        server.write("b")
        await until(lambda: names(copy) == {"a", "b"})
    assert "modelengines can't be listed: away" in caplog.text


async def test_before_the_first_list_nothing_is_known_and_it_is_tried_again(
    server: ApiServer, copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.failure = errors.Forbidden("no rights")
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def pause(delay_s: float) -> None:
        pauses.append(delay_s)
        await sleep(0)

    async with running(server, copy) as found:
        monkeypatch.setattr(relisting.asyncio, "sleep", pause)
        async with asyncio.timeout(5):
            while server.lists < 3:
                await sleep(0)
        assert not found._synced.is_set()
        server.failure = None
        await asyncio.wait_for(found.wait_synced(), 2)
        monkeypatch.undo()
    assert pauses[0] == 1.0
