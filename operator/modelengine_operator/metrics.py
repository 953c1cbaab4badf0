"""The operator as Prometheus reads it: what it reconciles, what waits, what it writes, and whether it leads.

`__main__.py` wires it: the exposition calls `look` on the event loop, and makes the text of what was seen in a thread.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from modelengine.exposition import counter, gauge
from modelengine_operator import statuses
from modelengine_operator.cluster import Cluster
from modelengine_operator.leadership import Leadership
from modelengine_operator.reconciler import Reconciler

PART = "operator"


class OperatorMetrics(Collector):
    """What was seen at the last look."""

    def __init__(self, reconciler: Reconciler, cluster: Cluster, leadership: Leadership) -> None:
        self._reconciler = reconciler
        self._cluster = cluster
        self._leadership = leadership
        self._seen: Sequence[Metric] = ()
        self.look()

    def look(self) -> None:
        self._seen = [*self._work(), *self._world()]

    def collect(self) -> Iterator[Metric]:
        yield from self._seen

    def _work(self) -> Iterator[Metric]:
        done = self._reconciler.done
        yield counter(
            "modelengine_operator_reconciles_total",
            "Looks at a ModelEngine or at a registry, by result: ok, conflict because somebody wrote meanwhile, "
            "not_leading, api_error of the API server, internal_error of ours.",
            ("kind", "result"),
            dict(done.results.items()),
        )
        yield counter(
            "modelengine_operator_reconcile_seconds_total",
            "Time that these looks took.",
            ("kind",),
            {(kind,): seconds for kind, seconds in done.seconds.items()},
        )
        yield gauge(
            "modelengine_operator_queue_length",
            "ModelEngines and registries that want a look and wait for one.",
            ("kind",),
            {(kind,): len(queue) for kind, queue in self._reconciler.queues.items()},
        )
        yield counter(
            "modelengine_operator_writes_total",
            "Objects that were written, by what they are.",
            ("resource",),
            {(resource,): count for resource, count in self._cluster.writes.items()},
        )
        yield gauge(
            "modelengine_operator_leading",
            "1 while this operator holds the Lease, and so writes.",
            (),
            {(): float(self._leadership.is_leading)},
        )

    def _world(self) -> Iterator[Metric]:
        world = self._reconciler.world
        by_readiness: Counter[tuple[str, ...]] = Counter({("true",): 0, ("false",): 0})
        for obj in world.modelengines.objects.values():
            by_readiness[("true" if _is_ready(obj) else "false",)] += 1
        yield gauge(
            "modelengine_operator_modelengines", "ModelEngines, by whether they are ready.", ("ready",), by_readiness
        )
        yield gauge(
            "modelengine_operator_registry_bytes",
            "Length of a namespace's registry; a ConfigMap holds at most 1 MiB.",
            ("registry_namespace",),
            {(namespace,): _size(world.registry(namespace)) for namespace in world.namespaces()},
        )


def _is_ready(obj: Mapping[str, Any]) -> bool:
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return any(found["type"] == statuses.READY and found["status"] == "True" for found in conditions)


def _size(registry: Mapping[str, Any] | None) -> int:
    data = (registry or {}).get("data") or {}
    return sum(len(key) + len(value.encode()) for key, value in data.items())
