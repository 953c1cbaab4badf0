"""What the operator shows of its work: each reconcile by its result, each write, and who leads."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from modelengine_kube import errors, resources
from modelengine_kube.api import KubeApi, Object
from modelengine_kube.resources import Resource
from modelengine_operator.asking import Asking
from modelengine_operator.cluster import Cluster
from modelengine_operator.leadership import Leadership, NotLeading
from modelengine_operator.metrics import OperatorMetrics
from modelengine_operator.reconciler import ENGINE, Reconciler
from modelengine_operator.transitions import Transitions
from samples import SETTINGS, modelengine

Samples = dict[tuple[str, ...], float]


class ObligingApi(KubeApi):
    """Takes every write."""

    def __init__(self) -> None:
        pass

    async def apply(self, resource: Resource, manifest: Object, *, subresource: str | None = None) -> Object:
        return manifest

    async def create(self, resource: Resource, obj: Object) -> Object:
        return obj


@pytest.fixture
def leadership() -> Leadership:
    leadership = Leadership(ObligingApi(), "home", "operator-1", clock=lambda: 0.0)
    leadership._valid_until = 1.0
    return leadership


@pytest.fixture
def cluster(leadership: Leadership) -> Cluster:
    return Cluster(ObligingApi(), leadership)


@pytest.fixture
def reconciler(cluster: Cluster, leadership: Leadership) -> Reconciler:
    transitions = Transitions("operator-1", lambda: 0.0)
    return Reconciler(SETTINGS, cluster, leadership, Asking(), transitions, lambda resource, obj: None)


@pytest.fixture
def metrics(reconciler: Reconciler, cluster: Cluster, leadership: Leadership) -> OperatorMetrics:
    return OperatorMetrics(reconciler, cluster, leadership)


def seen(metrics: OperatorMetrics, name: str) -> Samples:
    metrics.look()
    samples = [sample for metric in metrics.collect() for sample in metric.samples]
    return {tuple(sample.labels.values()): sample.value for sample in samples if sample.name == name}


@pytest.mark.parametrize(
    ("failure", "result"),
    [
        (None, "ok"),
        (NotLeading(), "not_leading"),
        (errors.Conflict("somebody wrote"), "conflict"),
        (errors.KubeError("away"), "api_error"),
        (ValueError("ours"), "internal_error"),
    ],
)
async def test_a_reconcile_is_counted_by_how_it_ended(
    reconciler: Reconciler,
    metrics: OperatorMetrics,
    leadership: Leadership,
    failure: Exception | None,
    result: str,
) -> None:
    key = ("team", "qwen")
    asked = asyncio.Event()

    async def reconcile(_: Any) -> None:
        asked.set()
        leadership._valid_until = float("-inf")
        if failure is not None:
            raise failure

    reconciler.engines.add(key)
    assert seen(metrics, "modelengine_operator_queue_length")[(ENGINE,)] == 1
    work = asyncio.create_task(reconciler._work(ENGINE, reconciler.engines, reconcile))
    await asked.wait()
    await asyncio.sleep(0)
    work.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await work
    found = seen(metrics, "modelengine_operator_reconciles_total")
    assert found.keys() == {(ENGINE, result)}
    assert seen(metrics, "modelengine_operator_reconcile_seconds_total")[(ENGINE,)] >= 0


async def test_a_write_is_counted_once_it_is_done_and_none_without_the_lease(
    cluster: Cluster, metrics: OperatorMetrics, leadership: Leadership
) -> None:
    await cluster.apply(resources.DEPLOYMENTS, {"metadata": {}})
    await cluster.apply(resources.MODELENGINES, {"metadata": {}}, subresource="status")
    await cluster.write_registry("team", None, {"a": "b"})
    await cluster.tell({})
    assert seen(metrics, "modelengine_operator_leading") == {(): 1.0}
    leadership._valid_until = float("-inf")
    with pytest.raises(NotLeading):
        await cluster.apply(resources.DEPLOYMENTS, {})
    assert seen(metrics, "modelengine_operator_writes_total") == {
        ("deployments",): 1.0,
        ("modelengines/status",): 1.0,
        ("configmaps",): 1.0,
        ("events",): 1.0,
    }
    assert seen(metrics, "modelengine_operator_leading") == {(): 0.0}


def test_modelengines_and_registries_are_as_the_operator_knows_them(
    reconciler: Reconciler, metrics: OperatorMetrics
) -> None:
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    for obj in (modelengine("a"), modelengine("b") | {"status": ready}, modelengine("c") | {"status": None}):
        reconciler.world.modelengines.learn(obj)
    registry = {"metadata": {"namespace": "team", "name": "modelengine-registry"}, "data": {"chat.a": "ü" * 10}}
    reconciler.world.on_change(resources.CONFIG_MAPS)(("team", "modelengine-registry"), registry)
    assert seen(metrics, "modelengine_operator_modelengines") == {("true",): 1.0, ("false",): 2.0}
    assert seen(metrics, "modelengine_operator_registry_bytes") == {("team",): 26.0}
