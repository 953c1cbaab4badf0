"""The directory over ConfigMaps without a cluster: the test writes the registries and answers the probes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from modelengine import errors
from modelengine.protocol import ServerInfo
from modelengine.registry_configmap import Entry, Service, encode
from modelengine_gateway import configmaps
from modelengine_gateway.configmaps import ConfigMaps, OnRegistry

ONE = Service(ServerInfo("demo", "10.0.0.1", 8000), "uid-1", "pod-1")
TWO = Service(ServerInfo("demo", "10.0.0.2", 8000), "uid-2", "pod-2")
PROBE_EVERY_S = 0.05
KEEP_DELETED_S = 0.2


def registry(*services: Service, name: str = "demo") -> dict[str, str]:
    return encode([Entry(name, "chat", "engine", "uid", services)])


class World:
    """The source of registries, and the engines: answers probes as told, when told."""

    kind = "a test's registries"

    def __init__(self) -> None:
        self.up: set[ServerInfo] = set()
        self.probes: list[ServerInfo] = []
        self.answer_now = asyncio.Event()
        self.answer_now.set()
        self.following = asyncio.Event()

    async def follow(self, on_registry: OnRegistry) -> None:
        self.following.set()
        await asyncio.Event().wait()

    def why_not_ready(self) -> str | None:
        return None if self.following.is_set() else "not yet"

    def details(self) -> Mapping[str, Any]:
        return {"namespaces": "all"}

    async def probe(self, info: ServerInfo) -> bool:
        self.probes.append(info)
        await self.answer_now.wait()
        return info in self.up


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def directory(world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ConfigMaps]:
    monkeypatch.setattr(configmaps, "PROBE_EVERY_S", PROBE_EVERY_S)
    monkeypatch.setattr(configmaps, "KEEP_DELETED_S", KEEP_DELETED_S)
    directory = ConfigMaps(world, "home", world.probe)
    keeping = asyncio.create_task(directory.keep())
    await world.following.wait()
    yield directory
    keeping.cancel()
    await asyncio.wait([keeping])
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}, "something outlives the directory"


async def turns(count: int = 5) -> None:
    """Lets whatever is due happen, without any time passing."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_what_the_registries_name_is_listed_in_order(directory: ConfigMaps) -> None:
    directory.take("b", registry(TWO, ONE))
    directory.take("a", encode([Entry("other", "chat", "e", "u", (Service(ServerInfo("other", "::1", 1), "u", "p"),))]))
    assert directory.services("chat", "demo") == [ONE.info, TWO.info]
    assert directory.names("chat") == ["demo", "other"]
    assert directory.names("retriever") == []
    assert directory.services("retriever", "demo") == []
    assert directory.all() == [ONE.info, TWO.info, ServerInfo("other", "::1", 1)]


async def test_a_name_without_a_ready_replica_is_not_listed_but_known(directory: ConfigMaps) -> None:
    directory.take("a", registry())
    assert directory.names("chat") == []
    missing = directory.missing("chat", "demo")
    assert isinstance(missing, errors.Unavailable)
    assert missing.message == "no replica of 'demo' is ready now"
    assert missing.retry_after_s
    assert isinstance(directory.missing("chat", "dem"), errors.NotFound)


async def test_a_model_that_is_not_ready_is_not_answered_for_by_another_namespaces_of_that_name(
    directory: ConfigMaps,
) -> None:
    directory.take("b", registry(ONE))
    directory.take("a", registry())
    assert directory.services("chat", "demo") == []
    assert isinstance(directory.missing("chat", "demo"), errors.Unavailable)


async def test_the_revision_grows_with_each_change_of_the_list_and_with_nothing_else(directory: ConfigMaps) -> None:
    directory.take("a", registry(ONE))
    revision = directory.revision
    directory.take("a", registry(ONE))
    directory.take("b", registry(TWO))
    assert directory.revision == revision, "b's demo is hidden behind a's"
    directory.take("a", registry(ONE, TWO))
    assert directory.revision > revision


async def test_a_replica_that_the_front_door_cannot_reach_is_out_at_once_and_others_stay(
    directory: ConfigMaps, world: World
) -> None:
    directory.take("a", registry(ONE, TWO))
    directory.unreachable(ONE.info)
    directory.unreachable(ONE.info)
    assert directory.services("chat", "demo") == [TWO.info]
    assert directory.ejections == 1
    directory.unreachable(TWO.info)
    assert directory.services("chat", "demo") == []
    assert directory.ejections == 2
    assert isinstance(directory.missing("chat", "demo"), errors.Unavailable)


async def test_who_was_out_comes_back_when_it_answers_and_is_asked_until_then(
    directory: ConfigMaps, world: World
) -> None:
    directory.take("a", registry(ONE))
    directory.unreachable(ONE.info)
    await asyncio.sleep(2.5 * PROBE_EVERY_S)
    assert len(world.probes) == 3
    world.up.add(ONE.info)
    async with asyncio.timeout(1):
        assert await directory.wait("chat", "demo", 1) == [ONE.info]
    asked = len(world.probes)
    await asyncio.sleep(2 * PROBE_EVERY_S)
    assert len(world.probes) == asked


async def test_who_refused_only_one_connection_is_back_at_once(directory: ConfigMaps, world: World) -> None:
    world.up.add(ONE.info)
    directory.take("a", registry(ONE))
    directory.unreachable(ONE.info)
    assert directory.services("chat", "demo") == []
    await turns()
    assert directory.services("chat", "demo") == [ONE.info]


async def test_a_client_s_report_takes_nobody_out_that_answers(directory: ConfigMaps, world: World) -> None:
    world.up.add(ONE.info)
    directory.take("a", registry(ONE, TWO))
    assert await directory.report(ONE.info) is True
    assert await directory.report(TWO.info) is False
    assert await directory.report(ServerInfo("demo", "10.0.0.9", 8000)) is False
    assert directory.services("chat", "demo") == [ONE.info]
    assert ServerInfo("demo", "10.0.0.9", 8000) not in world.probes, "a stranger chooses whom we dial"


async def test_the_registry_naming_it_again_does_not_bring_a_dead_replica_back(directory: ConfigMaps) -> None:
    directory.take("a", registry(ONE))
    directory.unreachable(ONE.info)
    directory.take("a", registry(ONE, TWO))
    assert directory.services("chat", "demo") == [TWO.info]


async def test_a_new_pod_at_a_dead_one_s_address_is_not_the_dead_one(directory: ConfigMaps, world: World) -> None:
    directory.take("a", registry(ONE))
    directory.unreachable(ONE.info)
    await turns()
    directory.take("a", registry(Service(ONE.info, "uid-new", "pod-new")))
    assert directory.services("chat", "demo") == [ONE.info]
    asked = len(world.probes)
    await asyncio.sleep(2 * PROBE_EVERY_S)
    assert len(world.probes) == asked, "the dead one is still being asked"


async def test_a_replica_that_the_registry_drops_while_it_is_asked_stays_away(
    directory: ConfigMaps, world: World
) -> None:
    world.up.add(ONE.info)
    world.answer_now.clear()
    directory.take("a", registry(ONE))
    directory.unreachable(ONE.info)
    await turns()
    directory.take("a", registry())
    world.answer_now.set()
    await turns()
    assert directory.all() == []


async def test_two_pods_at_one_address_are_one_replica_and_go_together(directory: ConfigMaps) -> None:
    directory.take("a", registry(ONE, Service(ONE.info, "uid-new", "pod-new")))
    assert directory.services("chat", "demo") == [ONE.info]
    directory.unreachable(ONE.info)
    assert directory.services("chat", "demo") == []


async def test_a_deleted_registry_stands_for_a_moment_in_case_it_is_written_anew(directory: ConfigMaps) -> None:
    directory.take("a", registry(ONE))
    directory.take("a", None)
    await asyncio.sleep(KEEP_DELETED_S / 2)
    assert directory.all() == [ONE.info]
    directory.take("a", registry(ONE))
    await asyncio.sleep(KEEP_DELETED_S)
    assert directory.all() == [ONE.info]
    directory.take("a", None)
    await asyncio.sleep(KEEP_DELETED_S * 1.5)
    assert directory.all() == []


async def test_an_emptied_registry_is_believed_at_once(directory: ConfigMaps) -> None:
    directory.take("a", registry(ONE))
    directory.take("a", {})
    assert directory.all() == []


async def test_a_wait_before_the_name_exists_ends_when_it_does(directory: ConfigMaps) -> None:
    waiting = asyncio.create_task(directory.wait("chat", "demo", 5))
    await turns()
    directory.take("a", registry())
    await turns()
    assert not waiting.done()
    directory.take("a", registry(ONE))
    assert await waiting == [ONE.info]


async def test_a_wait_for_a_name_that_never_comes_times_out(directory: ConfigMaps) -> None:
    with pytest.raises(errors.WaitTimeout):
        await directory.wait("chat", "demo", 0.05)


async def test_a_watch_is_told_of_registries_of_the_dead_and_of_who_takes_a_name_over(directory: ConfigMaps) -> None:
    watch = directory.watch("chat", "demo")
    assert await anext(watch) == []
    directory.take("zoo", registry(TWO))
    assert await anext(watch) == [TWO.info]
    directory.take("home", registry(ONE))
    assert await anext(watch) == [ONE.info]
    directory.unreachable(ONE.info)
    assert await anext(watch) == []
    await watch.aclose()


async def test_a_hidden_name_is_said_once_and_again_when_it_was_free_in_between(
    directory: ConfigMaps, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    directory.take("zoo", registry(TWO))
    directory.take("home", registry(ONE))
    directory.take("home", registry(ONE, TWO))
    said = "chat 'demo' of namespace zoo is hidden by the one of namespace home"
    assert caplog.messages == [said]
    directory.take("home", {})
    directory.take("home", registry(ONE))
    assert caplog.messages == [said] * 2


async def test_garbage_is_said_in_a_few_lines_however_much_it_is(
    directory: ConfigMaps, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    directory.take("a", {f"key-{i}": "?" for i in range(1000)})
    assert caplog.messages[0] == "the registry of namespace a: 'key-0': is not JSON"
    assert caplog.messages[-1] == "the registry of namespace a: 997 more like this"
    assert len(caplog.messages) == 4


async def test_it_is_ready_when_its_source_is(world: World) -> None:
    directory = ConfigMaps(world, "home", world.probe)
    assert directory.why_not_ready() == "not yet"
    world.following.set()
    assert directory.why_not_ready() is None
