"""All that our processes show to Prometheus, read from their real registries, and the table of it in docs/metrics.md.

`make chart` writes the table (`python -m shown_metrics`); tests compare it, and look up every name that a dashboard or
a page uses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric

from fakes import FakeRunner, fake_model
from modelengine.exposition import Exposition
from modelengine.protocol import ServerInfo
from modelengine.registry import Registry
from modelengine_api import calls
from modelengine_api.metrics import Requests
from modelengine_gateway import metrics as of_front_door
from modelengine_gateway.leases import Leases
from modelengine_gateway.loads import Loads
from modelengine_gateway.reports import LoadReports
from modelengine_gateway.upstream import Upstream
from modelengine_kube import resources
from modelengine_kube.api import KubeApi
from modelengine_operator import metrics as of_operator
from modelengine_operator.asking import Asking
from modelengine_operator.cluster import Cluster
from modelengine_operator.leadership import Leadership
from modelengine_operator.reconciler import Reconciler
from modelengine_operator.transitions import Transitions
from modelengine_runtime import metrics as of_engine
from modelengine_runtime.engine import Engine
from modelengine_runtime.lifecycle import Lifecycle
from modelengine_runtime.scheduler import Limits
from samples import SETTINGS

PAGE = Path(__file__).parents[1] / "docs" / "metrics.md"
TABLES = re.compile(r"(?<=<!-- metrics: made by `make chart` -->\n).*?(?=<!-- end of metrics -->)", re.DOTALL)
SUFFIXES: Mapping[str, tuple[str, ...]] = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}


@dataclass(frozen=True, slots=True)
class Shown:
    """One metric; `name` as a query writes it, but for a histogram's endings."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str

    @property
    def series(self) -> set[str]:
        return {self.name + ending for ending in SUFFIXES["histogram"]} if self.kind == "histogram" else {self.name}


@contextmanager
def registries() -> Iterator[dict[str, CollectorRegistry]]:
    """By part, each with an example of all that has labels."""
    engine = Engine(fake_model(FakeRunner()), Limits(max_running=2, max_waiting=2, step_tokens=8, kv_blocks=8))
    try:
        yield {"Front door": _front_door(), "Engine": _engine(engine), "Operator": _operator()}
    finally:
        engine.stop()


def shown(registry: CollectorRegistry) -> list[Shown]:
    return sorted((_shown(metric) for metric in registry.collect()), key=lambda metric: metric.name)


def page() -> str:
    """docs/metrics.md with its tables as the registries have them."""
    with registries() as found:
        tables = "\n".join(_table(part, shown(registry)) for part, registry in found.items())
    return TABLES.sub(lambda _: tables, PAGE.read_text())


def _table(part: str, metrics: list[Shown]) -> str:
    rows = [f"### {part}", "", "| Metric | Type | Labels | Meaning |", "|---|---|---|---|"]
    for metric in metrics:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        rows.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.meaning} |")
    return "\n".join([*rows, ""])


def _shown(metric: Metric) -> Shown:
    name = metric.name + ("_total" if metric.type == "counter" else "")
    labels = sorted({label for sample in metric.samples for label in sample.labels if label != "le"})
    return Shown(name, metric.type, tuple(labels), metric.documentation)


def _requests(exposition: Exposition) -> Requests:
    requests = Requests(exposition.registry)
    call = calls.begin((), "chat")
    calls.asked_for("demo")
    calls.retried("busy")
    calls.streams()
    calls.answered({"prompt_length": 3, "response_length": 2})
    requests.end(call, 1.0)
    requests.begin(call)
    requests.begin(calls.begin((), "chat"))
    return requests


def _front_door() -> CollectorRegistry:
    async def is_ready(info: ServerInfo) -> bool:
        return True

    names = Registry(6.0)
    names.register(ServerInfo("demo", "127.0.0.1", 1), 0.0)
    exposition = Exposition(of_front_door.PART)
    directory, loads = _Watched(names, is_ready), Loads()
    reports = LoadReports(directory, Upstream(), loads, ())
    reports.failures["stream_broken"] += 1
    exposition.registry.register(of_front_door.FrontDoorMetrics(directory, _requests(exposition), loads, reports))
    return exposition.registry


class _Watched(Leases):
    """With what a directory of a cluster tells."""

    def details(self) -> Mapping[str, float]:
        return {"heard_s_ago": 1.0}


def _engine(engine: Engine) -> CollectorRegistry:
    lifecycle = Lifecycle("demo", lambda: engine, "", "")
    lifecycle._engine = engine
    exposition = Exposition(of_engine.PART)
    requests = _requests(exposition)
    exposition.registry.register(of_engine.EngineMetrics(lifecycle))
    exposition.registry.register(of_engine.VllmMetrics(lifecycle, requests))
    return exposition.registry


def _operator() -> CollectorRegistry:
    api = KubeApi.__new__(KubeApi)
    leadership = Leadership(api, "home", "operator-1")
    cluster = Cluster(api, leadership)
    reconciler = Reconciler(
        SETTINGS, cluster, leadership, Asking(), Transitions("operator-1", lambda: 0.0), lambda resource, obj: None
    )
    reconciler.done.results["modelengine", "ok"] += 1
    reconciler.done.seconds["modelengine"] += 0.1
    cluster.writes["deployments"] += 1
    registry = {"metadata": {"namespace": "home", "name": "modelengine-registry"}, "data": {}}
    reconciler.world.on_change(resources.CONFIG_MAPS)(("home", "modelengine-registry"), registry)
    exposition = Exposition(of_operator.PART)
    exposition.registry.register(of_operator.OperatorMetrics(reconciler, cluster, leadership))
    return exposition.registry


if __name__ == "__main__":
    PAGE.write_text(page())
