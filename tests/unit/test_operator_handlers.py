"""kopf's handlers: what they pass on, what the probe answers, and what it all costs to import."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import kopf
import pytest
from kopf._core.intents.causes import Activity

import samples
from modelengine_kube.copies import Copy
from modelengine_operator import handlers

Object = dict[str, Any]


def activities(registry: kopf.OperatorRegistry, kind: Activity) -> dict[str, Any]:
    return {h.id: h for h in registry._activities.get_all_handlers() if h.activity is kind}


def engine(version: int, **metadata: Any) -> Object:
    return samples.modelengine(resourceVersion=str(version), **metadata)


@pytest.fixture
def copy() -> Copy:
    return Copy(lambda key, obj: None)


async def tell(copy: Copy, kind: str | None, obj: Object) -> None:
    [handler] = handlers.registry_of(copy, {})._watching.get_all_handlers()
    await handler.fn(event={"type": kind, "object": obj}, name="qwen", namespace="team")


def version(copy: Copy) -> str | None:
    known = copy.objects.get(("team", "qwen"))
    return known["metadata"]["resourceVersion"] if known is not None else None


@pytest.mark.parametrize("kind", [None, "ADDED", "MODIFIED"], ids=["listed", "added", "modified"])
async def test_each_event_is_passed_on(copy: Copy, kind: str | None) -> None:
    await tell(copy, kind, engine(5))
    assert version(copy) == "5"


async def test_an_event_that_tells_an_older_state_takes_nothing_back(copy: Copy) -> None:
    await tell(copy, "MODIFIED", engine(7))
    await tell(copy, None, engine(5))
    assert version(copy) == "7"
    await tell(copy, "DELETED", engine(6))
    assert version(copy) == "7"


async def test_a_deleted_one_is_gone_and_stays_gone(copy: Copy) -> None:
    await tell(copy, "ADDED", engine(5))
    await tell(copy, "DELETED", engine(8))
    await tell(copy, "MODIFIED", engine(6))
    assert version(copy) is None


def fine() -> None:
    pass


def broken() -> None:
    raise RuntimeError("0 of 1 watches live")


async def test_the_probe_asks_every_check_and_fails_with_the_first_that_does(
    copy: Copy, caplog: pytest.LogCaptureFixture
) -> None:
    probe: Mapping[str, handlers.Check] = {"watchers": broken, "tasks": fine}
    found = activities(handlers.registry_of(copy, probe), Activity.PROBE)
    assert found.keys() == {"watchers", "tasks"}
    # Kopf would try any other again and again, and never answer.
    assert {handler.errors for handler in found.values()} == {kopf.ErrorsMode.PERMANENT}
    await found["tasks"].fn(memo=None)
    with pytest.raises(RuntimeError, match="0 of 1 watches live"):
        await found["watchers"].fn(memo=None)
    assert [(r.levelno, r.message) for r in caplog.records] == [(logging.WARNING, "not healthy: 0 of 1 watches live")]


async def test_it_logs_in_as_its_pod_and_outside_of_one_by_the_kubeconfig(
    copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    [handler] = activities(handlers.registry_of(copy, {}), Activity.AUTHENTICATION).values()
    here = kopf.ConnectionInfo(server="https://a")
    there = kopf.ConnectionInfo(server="https://b")
    monkeypatch.setattr(kopf, "login_with_kubeconfig", lambda **_: there)
    monkeypatch.setattr(kopf, "login_with_service_account", lambda **_: here)
    assert await handler.fn(logger=None) is here
    monkeypatch.setattr(kopf, "login_with_service_account", lambda **_: None)
    assert await handler.fn(logger=None) is there


def imported(module: str) -> set[str]:
    """The modules that a process has that imports this one."""
    script = f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=60).stdout
    return set(json.loads(told))


def test_the_operator_starts_without_what_takes_seconds_or_a_hundred_megabytes_to_import() -> None:
    found = imported("modelengine_operator.__main__")
    heavy = {name for name in found if name.split(".")[0] in ("torch", "transformers", "numpy", "fastapi", "starlette")}
    assert heavy == set()
    # Their typed classes, a file for each. kopf looks at three of them.
    classes = {name for name in found if name.startswith(("kubernetes.client.", "kubernetes.aio.client."))}
    assert {name for name in classes if ".api." in name or name.endswith(".api")} == set()
    assert len({name for name in classes if ".models." in name}) <= 3
    assert len(found) < 1100


def test_what_the_operator_decides_needs_neither_kopf_nor_a_client() -> None:
    for module in ("findings", "statuses", "plan", "names", "diff", "transitions", "workqueue"):
        found = imported(f"modelengine_operator.{module}")
        assert {name for name in found if name.split(".")[0] in ("kopf", "kubernetes", "aiohttp")} == set(), module
