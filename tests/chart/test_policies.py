"""Who may call whom, by the NetworkPolicies that the chart makes."""

from __future__ import annotations

from typing import Any

from chart.rendering import Helm, Object
from modelengine import kinds
from modelengine.env import DEFAULT_METRICS_PORT

ENGINE_PODS = {"matchLabels": {kinds.LABEL_APP: kinds.APP}}


# Who may read them, by default: every pod of the cluster.
METRICS = {"ports": [{"protocol": "TCP", "port": DEFAULT_METRICS_PORT}], "from": [{"namespaceSelector": {}}]}


def policies(objects: list[Object]) -> dict[tuple[str, str], Any]:
    """(namespace, name without the release's) -> spec"""
    return {
        (obj["metadata"]["namespace"], obj["metadata"]["name"].removeprefix("modelengine-")): obj["spec"]
        for obj in objects
        if obj["kind"] == "NetworkPolicy"
    }


def ports(rule: Object) -> list[int]:
    return [port["port"] for port in rule["ports"]]


def test_each_part_has_a_policy_and_the_engines_one_in_each_known_namespace(rendered: dict[str, list[Object]]) -> None:
    parts = {("home", "operator"), ("home", "front-door")}
    assert policies(rendered["defaults"]).keys() == parts | {("home", "engines")}
    assert policies(rendered["namespaces"]).keys() == parts | {("team-a", "engines"), ("team-b", "engines")}
    assert policies(rendered["all off"]) == {}
    every = [spec for objects in rendered.values() for spec in policies(objects).values()]
    assert all(spec["policyTypes"] == ["Ingress", "Egress"] for spec in every)


def test_nobody_calls_the_operator_and_everybody_the_front_door_unless_clients_are_named(
    rendered: dict[str, list[Object]],
) -> None:
    found = policies(rendered["defaults"])
    assert found["home", "operator"]["ingress"] == [METRICS]
    rule, measured = found["home", "front-door"]["ingress"]
    assert ports(rule) == [9527]
    assert "from" not in rule
    assert measured == METRICS

    rule, _ = policies(rendered["all on"])["home", "front-door"]["ingress"]
    web, test = rule["from"]
    assert web == {"podSelector": {"matchLabels": {"app": "web"}}}
    assert test["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "test"


def test_operator_and_front_door_call_names_the_api_server_and_engines(rendered: dict[str, list[Object]]) -> None:
    for part in ("operator", "front-door"):
        dns, api_server, engines = policies(rendered["defaults"])["home", part]["egress"]
        assert set(ports(dns)) == {53, 5353}
        assert ports(api_server) == [443, 6443, 8443, 16443]
        assert engines == {
            "to": [{"namespaceSelector": {}, "podSelector": ENGINE_PODS}],
            "ports": [{"protocol": "TCP", "port": kinds.ENGINE_PORT}],
        }
        [peer] = policies(rendered["namespaces"])["home", part]["egress"][2]["to"]
        [named] = peer["namespaceSelector"]["matchExpressions"]
        assert named == {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["team-a", "team-b"]}


def test_without_direct_access_only_our_own_call_the_engines(rendered: dict[str, list[Object]]) -> None:
    direct = policies(rendered["defaults"])["home", "engines"]
    assert direct["podSelector"] == ENGINE_PODS
    rule, measured = direct["ingress"]
    assert measured == METRICS
    assert (rule["from"], ports(rule)) == ([{"namespaceSelector": {}}], [kinds.ENGINE_PORT])

    rule, _ = policies(rendered["all on"])["home", "engines"]["ingress"]
    [peer] = rule["from"]
    assert peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "home"}
    assert peer["podSelector"]["matchLabels"]["app.kubernetes.io/name"] == "modelengine"


def test_engines_reach_public_addresses_for_downloads_and_nothing_inside(rendered: dict[str, list[Object]]) -> None:
    dns, hub = policies(rendered["defaults"])["home", "engines"]["egress"]
    assert set(ports(dns)) == {53, 5353}
    assert ports(hub) == [443]
    v4, v6 = (peer["ipBlock"] for peer in hub["to"])
    # The API server, other pods, and the machine's metadata.
    assert {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"} <= set(v4["except"])
    assert {"fc00::/7", "fe80::/10"} <= set(v6["except"])


def test_metrics_are_for_whoever_is_named_or_for_nobody(helm: Helm, rendered: dict[str, list[Object]]) -> None:
    for spec in policies(rendered["all on"]).values():
        [rule] = [rule for rule in spec["ingress"] if ports(rule) == [DEFAULT_METRICS_PORT]]
        assert rule["from"] == [{"namespaceSelector": {"matchLabels": {"role": "monitoring"}}}]
    for spec in policies(helm.template("networkPolicy.scrapers=null")).values():
        assert not any(DEFAULT_METRICS_PORT in ports(rule) for rule in spec["ingress"])


def test_engines_can_be_shut_in(helm: Helm) -> None:
    spec = policies(helm.template("networkPolicy.hubPeers=null"))["home", "engines"]
    assert spec["egress"] == []
