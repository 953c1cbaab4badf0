"""What Prometheus and Grafana are given: a PodMonitor that finds every part's port, and the dashboard as it is kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

from charts import render

from chart.rendering import Helm, Object
from modelengine import kinds
from modelengine_operator import podspec
from samples import SETTINGS, engine

DASHBOARD = render.CHART / "dashboards" / "modelengine.json"


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    return [obj for obj in objects if obj["kind"] == kind]


def test_nothing_of_it_is_made_unless_it_is_asked_for(rendered: dict[str, list[Object]]) -> None:
    assert of_kind(rendered["defaults"], "PodMonitor") == []
    assert not any("dashboard" in obj["metadata"]["name"] for obj in rendered["defaults"])


def test_the_monitor_finds_the_port_of_every_part_and_of_the_engines(
    rendered: dict[str, list[Object]], pods: Callable[[str], Iterator[tuple[str, Object]]]
) -> None:
    [monitor] = of_kind(rendered["all on"], "PodMonitor")
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    [wanted] = monitor["spec"]["selector"]["matchExpressions"]
    assert (wanted["key"], wanted["operator"]) == (kinds.LABEL_APP, "In")
    [endpoint] = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint == {"port": "metrics", "interval": "30s"}

    measured = {
        name: pod["metadata"]["labels"][kinds.LABEL_APP]
        for name, pod in pods("all on")
        for port in pod["spec"]["containers"][0].get("ports", ())
        if port["name"] == endpoint["port"]
    }
    assert measured == dict.fromkeys(("modelengine-operator", "modelengine-front-door"), "modelengine")
    [container] = podspec.of(engine(), SETTINGS)["containers"]
    assert endpoint["port"] in {port["name"] for port in container["ports"]}
    assert set(wanted["values"]) == {"modelengine", kinds.APP}


def test_the_monitor_looks_where_engines_are_watched_and_where_the_release_is(helm: Helm) -> None:
    for sets, namespaces in (((), {"any": True}), (("watchNamespaces={a,home}",), {"matchNames": ["a", "home"]})):
        [monitor] = of_kind(helm.template("metrics.podMonitor.enabled=true", *sets), "PodMonitor")
        assert monitor["spec"]["namespaceSelector"] == namespaces


def test_no_service_shows_metrics_for_it_may_be_open_to_the_world(rendered: dict[str, list[Object]]) -> None:
    services = of_kind(rendered["all on"], "Service")
    assert [port["name"] for service in services for port in service["spec"]["ports"]] == ["nameserver"]


def test_grafana_is_given_the_dashboard_as_it_is_kept(rendered: dict[str, list[Object]]) -> None:
    maps = of_kind(rendered["all on"], "ConfigMap")
    [found] = [obj for obj in maps if obj["metadata"]["labels"].get("grafana_dashboard") == "1"]
    assert json.loads(found["data"]["modelengine.json"]) == json.loads(DASHBOARD.read_text())
