"""Values: what the chart takes, what it refuses and in which words, and that all of them are documented."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from charts import render

from chart.rendering import CHOICES, Helm

SCHEMA = json.loads((render.CHART / "values.schema.json").read_text())


@pytest.mark.parametrize("choice", CHOICES)
def test_the_chart_passes_helms_own_strict_checks(helm: Helm, choice: str) -> None:
    chosen = [word for assignment in CHOICES[choice] for word in ("--set", assignment)]
    done = helm.run("lint", "--strict", render.CHART, *chosen)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("assignment", "where", "what"),
    [
        ("frontDor=1", "at ''", "'frontDor' not allowed"),
        ("frontDoor.replica=3", "at '/frontDoor'", "'replica' not allowed"),
        ("frontDoor.replicas=-1", "at '/frontDoor/replicas'", "minimum"),
        ('frontDoor.replicas="two"', "at '/frontDoor/replicas'", "got string"),
        ("frontDoor.service.port=70000", "at '/frontDoor/service/port'", "maximum"),
        ('frontDoor.service.type="ExternalName"', "at '/frontDoor/service/type'", "'ClusterIP', 'NodePort'"),
        ("frontDoor.service.annotations.a=1", "at '/frontDoor/service/annotations/a'", "want string"),
        ("frontDoor.resources.request.cpu=1", "at '/frontDoor/resources'", "'request' not allowed"),
        ('frontDoor.allowedHosts=["*"]', "at '/frontDoor/allowedHosts/0'", "pattern"),
        ('frontDoor.corsOrigins=["*"]', "at '/frontDoor/corsOrigins/0'", "pattern"),
        ("frontDoor.maxConnections=0", "at '/frontDoor/maxConnections'", "minimum"),
        ("frontDoor.queue.length=-1", "at '/frontDoor/queue/length'", "minimum"),
        ("frontDoor.queue.size=1", "at '/frontDoor/queue'", "'size' not allowed"),
        ("frontDoor.deadlines.answerSeconds=0", "at '/frontDoor/deadlines/answerSeconds'", "minimum"),
        ('apiKeys.existingSecret="Keys"', "at '/apiKeys/existingSecret'", "pattern"),
        ('apiKeys.entry="a/b"', "at '/apiKeys/entry'", "pattern"),
        ("frontDoor.graceSeconds=3601", "at '/frontDoor/graceSeconds'", "maximum"),
        ('watchNamespaces="team-a"', "at '/watchNamespaces'", "want array"),
        ('watchNamespaces=["Team"]', "at '/watchNamespaces/0'", "pattern"),
        ('watchNamespaces=["a","a"]', "at '/watchNamespaces'", "equal"),
        ('image.pullPolicy="Sometimes"', "at '/image/pullPolicy'", "'IfNotPresent'"),
        ('image.digest="latest"', "at '/image/digest'", "sha256"),
        ('image.repository=""', "at '/image/repository'", "pattern"),
        ('engine.image.tag="a b"', "at '/engine/image/tag'", "pattern"),
        ('engine.allowedImages=["a,b"]', "at '/engine/allowedImages/0'", "pattern"),
        ('engine.allowedImages=["a*b"]', "at '/engine/allowedImages/0'", "pattern"),
        ('hub.endpoint="mirror.local"', "at '/hub/endpoint'", "https?"),
        ('logFormat="xml"', "at '/logFormat'", "'json'"),
        ("metrics.podMonitor.interval=30", "at '/metrics/podMonitor/interval'", "want string"),
        ('metrics.podMonitor.interval="often"', "at '/metrics/podMonitor/interval'", "pattern"),
        ("metrics.dashboard.on=true", "at '/metrics/dashboard'", "'on' not allowed"),
        ("networkPolicy.scrapers=[{}]", "at '/networkPolicy/scrapers/0'", "minProperties"),
        ('logLevel="TRACE"', "at '/logLevel'", "'WARNING'"),
        ('crds.install="yes"', "at '/crds/install'", "want boolean"),
        ('networkPolicy.clients=[{"podSelectr":{}}]', "at '/networkPolicy/clients/0'", "'podSelectr' not allowed"),
        ("networkPolicy.clients=[{}]", "at '/networkPolicy/clients/0'", "minProperties"),
        ("networkPolicy.apiServerPorts=[0]", "at '/networkPolicy/apiServerPorts/0'", "minimum"),
        ('tolerations=[{"keys":"a"}]', "at '/tolerations/0'", "'keys' not allowed"),
        ('affinity={"nodeAffinities":{}}', "at '/affinity'", "'nodeAffinities' not allowed"),
        ('fullnameOverride="Upper"', "at '/fullnameOverride'", "pattern"),
    ],
)
def test_what_the_chart_does_not_take_is_refused_by_the_name_of_its_key(
    helm: Helm, assignment: str, where: str, what: str
) -> None:
    said = helm.refusal(assignment)
    assert where in said
    assert what in said


def test_the_names_of_a_release_that_begins_with_a_digit_are_refused_with_what_to_do(helm: Helm) -> None:
    done = helm.run("template", "1st", render.CHART)
    assert "set fullnameOverride" in done.stderr


@pytest.mark.parametrize(
    ("release", "service"),
    [
        ("modelengine", "modelengine"),
        ("my-modelengine", "my-modelengine"),
        ("chat", "chat-modelengine"),
        ("c.1", "c-1-modelengine"),
        # The longest that helm takes.
        ("r" * 53, "r" * 45),
    ],
)
def test_the_front_doors_service_is_called_after_the_release(helm: Helm, release: str, service: str) -> None:
    objects = helm.template(release=release)
    assert [obj["metadata"]["name"] for obj in objects if obj["kind"] == "Service"] == [service]
    assert max(len(obj["metadata"]["name"]) for obj in objects) <= 63


def test_a_parent_chart_may_pass_its_global_values(helm: Helm) -> None:
    assert helm.template("global.registry=any")


def levels(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield path, schema
        for key, value in schema.items():
            yield from levels(value, f"{path}/{key}")


def test_no_level_of_the_values_is_open_by_accident() -> None:
    undecided = [path for path, level in levels(SCHEMA) if "additionalProperties" not in level]
    assert undecided == []
    is_open = {path.rsplit("/", 1)[1] for path, level in levels(SCHEMA) if level["additionalProperties"] is True}
    # Kubernetes' own structures, which the API server checks; and a parent's.
    assert is_open == {
        "global", "nodeAffinity", "podAffinity", "podAntiAffinity", "podSelector", "namespaceSelector",
    }  # fmt: skip


def test_every_value_is_in_the_schema_and_has_a_comment_and_no_other_is() -> None:
    def named(schema: dict[str, Any], path: str) -> Iterator[str]:
        for key, value in schema.get("properties", {}).items():
            yield from named(value, f"{path}{key}.") if "properties" in value else [path + key]

    affinity = {"affinity.nodeAffinity", "affinity.podAffinity", "affinity.podAntiAffinity"}
    documented = {name for name, _, _ in render.values(render.VALUES.read_text())}
    assert set(named(SCHEMA, "")) - affinity - {"global"} == documented - {"affinity"}


def test_a_value_without_a_comment_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"a\.c in values\.yaml has no"):
        list(render.values("a:\n  # -- known\n  b: 1\n  c: 2\n"))


def test_values_stay_short() -> None:
    lines = render.VALUES.read_text().splitlines()
    assert len(lines) < 160
    assert max(map(len, lines)) <= 150
