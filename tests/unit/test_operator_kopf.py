"""What is relied on of kopf's insides. Before kopf is raised: these, and tests/cluster/test_operator_watches.py."""

from __future__ import annotations

import asyncio
import inspect
import itertools
from typing import Any

import kopf
import pytest
from kopf._core.intents import causes
from kopf._core.reactor import orchestration

from modelengine import kinds
from modelengine_kube.copies import Copy
from modelengine_operator import handlers


async def test_a_watch_of_kopf_is_a_task_of_the_name_that_the_probe_looks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """By kopf's own function that starts watches."""

    async def watch(**_: Any) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(orchestration.queueing, "watcher", watch)
    resource = kopf.Resource(kinds.GROUP, kinds.VERSION, kinds.PLURAL, namespaced=True)
    toggles = orchestration.aiotoggles.ToggleSet(any)
    ensemble = orchestration.Ensemble(
        operator_paused=toggles,
        operator_indexed=orchestration.aiotoggles.ToggleSet(all),
        peering_missing=await toggles.make_toggle(),
    )
    with pytest.raises(RuntimeError, match="0 of 2 watches live"):
        handlers.check_watchers(("a", "b"))
    await orchestration.spawn_missing_watchers(
        processor=watch,
        settings=kopf.OperatorSettings(),
        indexed_resources=(),
        watched_resources=[resource],
        watched_namespaces=["a", "b"],
        ensemble=ensemble,
    )
    handlers.check_watchers(("a", "b"))
    tasks = list(ensemble.watcher_tasks.values())
    tasks[0].cancel()
    await asyncio.wait(tasks[:1])
    with pytest.raises(RuntimeError, match="1 of 2 watches live"):
        handlers.check_watchers(("a", "b"))
    tasks[1].cancel()
    await asyncio.wait(tasks[1:])


def test_delays_between_tries_never_end_and_kopf_asks_for_no_length() -> None:
    delays = list(itertools.islice(iter(handlers.Forever()), 10_000))
    assert all(0 < delay <= 16 for delay in delays)
    assert max(delays[:3]) <= 2
    assert not hasattr(handlers.Forever, "__len__")


async def test_kopf_writes_nothing_by_itself_and_gives_no_watch_up() -> None:
    settings = kopf.OperatorSettings()
    registry = handlers.registry_of(Copy(lambda key, obj: None), {})
    [startup] = [h for h in registry._activities.get_all_handlers() if h.activity is causes.Activity.STARTUP]
    assert inspect.iscoroutinefunction(startup.fn)
    await startup.fn(settings=settings)
    assert settings.posting.enabled is False
    assert settings.scanning.disabled is True
    assert isinstance(settings.networking.error_backoffs, handlers.Forever)
    assert settings.watching.inactivity_timeout == handlers.SILENCE_S
    handled = list(registry._watching.get_all_handlers())
    assert len(handled) == 1
    # An event handler: those of changes, timers and daemons would write finalizers and annotations.
    assert not list(registry._changing.get_all_handlers())
    assert not list(registry._spawning.get_all_handlers())
