"""The chart's pods: the restricted standard, tokens, labels, and settings that the processes read as they are set."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from charts import render

from chart.rendering import CHOICES, Object
from modelengine import kinds
from modelengine.env import DEFAULT_METRICS_PORT, MetricsPort
from modelengine.protocol import DEFAULT_PORT
from modelengine_api.pages import Policy
from modelengine_gateway import settings as gateway_settings
from modelengine_operator import settings as operator_settings
from modelengine_operator import uninstall

# Labels that somebody looks for, or that the choice sets.
MORE = ("team", "release", "grafana_dashboard")
Pods = Callable[[str], Iterator[tuple[str, Object]]]


@pytest.mark.parametrize("choice", CHOICES)
def test_all_pods_keep_to_the_restricted_standard(pods: Pods, choice: str) -> None:
    for name, pod in pods(choice):
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["runAsUser"] == 10001, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert {"hostNetwork", "hostPID", "hostIPC"}.isdisjoint(spec), name
        assert all(set(volume) <= {"name", "emptyDir", "secret"} for volume in spec["volumes"]), name
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert all("hostPort" not in port for port in container.get("ports", [])), name
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}, name
            assert "memory" in container["resources"]["limits"], name


def test_only_who_talks_to_the_api_server_has_a_token(pods: Pods, rendered: dict[str, list[Object]]) -> None:
    tokens = {name: pod["spec"]["automountServiceAccountToken"] for name, pod in pods("defaults")}
    assert tokens == {
        "modelengine-operator": True,
        "modelengine-front-door": True,
        "modelengine-uninstall": True,
        "modelengine-test": False,
    }
    accounts = [obj for obj in rendered["defaults"] if obj["kind"] == "ServiceAccount"]
    assert [account["automountServiceAccountToken"] for account in accounts] == [False] * 3
    # Otherwise a Service called modelengine would put MODELENGINE_... variables into them.
    assert not any(pod["spec"]["enableServiceLinks"] for _, pod in pods("defaults"))


@pytest.mark.parametrize("choice", CHOICES)
def test_everything_has_the_recommended_labels(rendered: dict[str, list[Object]], pods: Pods, choice: str) -> None:
    version = yaml.safe_load((render.CHART / "Chart.yaml").read_text())["version"]
    things = [(obj["kind"], obj["metadata"]["labels"]) for obj in rendered[choice]]
    for name, labels in [*things, *((name, pod["metadata"]["labels"]) for name, pod in pods(choice))]:
        component = labels["app.kubernetes.io/component"]
        assert {key: value for key, value in labels.items() if "aggregate-to" not in key and key not in MORE} == {
            "app.kubernetes.io/name": "modelengine",
            "app.kubernetes.io/instance": "modelengine",
            "app.kubernetes.io/component": component,
            "app.kubernetes.io/version": version,
            "app.kubernetes.io/part-of": "modelengine",
            "app.kubernetes.io/managed-by": "Helm",
            "helm.sh/chart": f"modelengine-{version}",
        }, name


def test_selectors_find_the_pods_of_their_part_alone(rendered: dict[str, list[Object]], pods: Pods) -> None:
    templates = {name: pod["metadata"]["labels"] for name, pod in pods("all on")}

    def found(selector: dict[str, str]) -> set[str]:
        return {name for name, labels in templates.items() if selector.items() <= labels.items()}

    for obj in rendered["all on"]:
        match obj["kind"]:
            case "Service":
                assert found(obj["spec"]["selector"]) == {"modelengine-front-door"}
            case "Deployment" | "PodDisruptionBudget":
                assert found(obj["spec"]["selector"]["matchLabels"]) == {obj["metadata"]["name"]}
            case "NetworkPolicy" if obj["metadata"]["name"] != "modelengine-engines":
                assert found(obj["spec"]["podSelector"]["matchLabels"]) == {obj["metadata"]["name"]}
    # An engine carries other labels: no selector here reaches it.
    assert kinds.APP not in {labels["app.kubernetes.io/name"] for labels in templates.values()}


class Recorder(dict[str, str]):
    """An environment that remembers what it was asked for."""

    def __init__(self, variables: dict[str, str]) -> None:
        super().__init__(variables)
        self.asked: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.asked.add(name)
        return super().get(name, default)


def environment(pods: Pods, choice: str, component: str) -> dict[str, str]:
    """As Kubernetes would set it."""
    [pod] = [pod for name, pod in pods(choice) if name == f"modelengine-{component}"]
    [container] = pod["spec"]["containers"]
    names = [entry["name"] for entry in container["env"]]
    assert len(names) == len(set(names))
    return {entry["name"]: entry.get("value", "from-the-pod") for entry in container["env"]}


def test_the_operator_reads_what_the_chart_sets(pods: Pods) -> None:
    given = Recorder(environment(pods, "all on", "operator"))
    chosen = operator_settings.from_env(given)
    assert set(given) <= given.asked
    assert given.asked - set(given) <= {"MODELENGINE_EXIT_WITH_STDIN"}
    assert chosen.engine_image == "modelengine-engine@sha256:" + "b" * 64
    assert chosen.allowed_images == ("registry.local/*", "other:1")
    assert chosen.hub_endpoint == "http://mirror.local:8080"
    assert chosen.namespaces == ()
    assert chosen.log_level == "DEBUG"
    assert chosen.log_format == "text"
    assert chosen.metrics_port == MetricsPort(DEFAULT_METRICS_PORT)
    assert chosen.namespace == chosen.identity == "from-the-pod"


def test_the_front_door_reads_what_the_chart_sets(pods: Pods) -> None:
    given = Recorder(environment(pods, "namespaces", "front-door"))
    chosen = gateway_settings.from_env(given)
    assert set(given) <= given.asked
    assert chosen.listen_host == "0.0.0.0"
    assert chosen.listen_port == DEFAULT_PORT
    assert chosen.log_format == "json"
    assert chosen.metrics_port == MetricsPort(DEFAULT_METRICS_PORT)
    assert chosen.grace_s == 30
    assert chosen.namespaces == ("team-a", "team-b")


def test_only_the_front_door_has_the_api_keys_and_nobody_may_write_them(pods: Pods) -> None:
    for choice, path in (("all on", "/etc/modelengine/api-keys/keys.yaml"), ("all off", "/etc/modelengine/api-keys")):
        with_secrets = {
            name: (pod["spec"]["volumes"][-1]["secret"], pod["spec"]["containers"][0]["volumeMounts"][-1])
            for name, pod in pods(choice)
            if any("secret" in volume for volume in pod["spec"]["volumes"])
        }
        mount = {"name": "api-keys", "mountPath": "/etc/modelengine/api-keys", "readOnly": True}
        assert with_secrets == {"modelengine-front-door": ({"secretName": "keys", "defaultMode": 0o440}, mount)}
        assert gateway_settings.from_env(environment(pods, choice, "front-door")).api_keys == path
    assert gateway_settings.from_env(environment(pods, "defaults", "front-door")).api_keys == ""


def test_the_front_door_knows_its_limits_and_which_browsers_may_ask(pods: Pods) -> None:
    chosen = gateway_settings.from_env(environment(pods, "all on", "front-door"))
    assert chosen.max_connections == 500
    assert chosen.pages == Policy(
        frozenset({"https://app.example.com"}), ("chat.example.com", "*.models.example.com"), is_loopback=False
    )
    assert gateway_settings.from_env(environment(pods, "defaults", "front-door")).pages == Policy()


def test_the_front_door_waits_as_long_as_the_chart_says_and_else_as_long_as_it_does_by_itself(pods: Pods) -> None:
    def patience(chosen: gateway_settings.Settings) -> tuple[float, ...]:
        return chosen.queue_length, chosen.queue_s, chosen.first_byte_s, chosen.between_bytes_s, chosen.answer_s

    chosen = gateway_settings.from_env(environment(pods, "all on", "front-door"))
    assert patience(chosen) == (100_000, 20, 30, 15, 86_400)
    default = gateway_settings.from_env(environment(pods, "defaults", "front-door"))
    assert patience(default) == patience(gateway_settings.Settings())


def test_the_uninstallation_reads_what_the_chart_sets(pods: Pods) -> None:
    source = inspect.getsource(uninstall)
    given = environment(pods, "namespaces", "uninstall")
    assert {name for name in given if f'"{name}"' not in source} == set()


def test_both_and_the_uninstallation_look_into_the_same_namespaces(pods: Pods) -> None:
    for component in ("operator", "front-door", "uninstall"):
        assert environment(pods, "namespaces", component)["MODELENGINE_NAMESPACES"] == "team-a,team-b"
        assert environment(pods, "defaults", component)["MODELENGINE_NAMESPACES"] == ""


def test_ports_and_probes_are_those_of_the_processes(pods: Pods) -> None:
    found = {name: pod["spec"] for name, pod in pods("defaults")}

    def probes(name: str) -> dict[str, str]:
        [container] = found[name]["containers"]
        port, measured = container["ports"]
        assert (measured["name"], measured["containerPort"]) == ("metrics", DEFAULT_METRICS_PORT)
        asked = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")}
        assert {probe["port"] for probe in asked.values()} == {port["name"]}
        return {kind: f"{port['containerPort']}{probe['path']}" for kind, probe in asked.items()}

    assert probes("modelengine-operator") == dict.fromkeys(("startup", "readiness", "liveness"), "8080/healthz")
    assert probes("modelengine-front-door") == {
        "startup": "9527/health",
        "readiness": "9527/ready",
        "liveness": "9527/health",
    }


def test_a_front_door_that_stops_has_time_for_open_answers(pods: Pods) -> None:
    [spec] = [pod["spec"] for name, pod in pods("defaults") if name == "modelengine-front-door"]
    [container] = spec["containers"]
    sleep = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    grace = float(environment(pods, "defaults", "front-door")["MODELENGINE_GRACE_S"])
    assert spec["terminationGracePeriodSeconds"] >= sleep + grace + 5


def test_the_number_of_front_doors_can_be_left_to_an_autoscaler(rendered: dict[str, list[Object]]) -> None:
    def of(choice: str) -> Object:
        found = [obj for obj in rendered[choice] if obj["metadata"]["name"] == "modelengine-front-door"]
        [spec] = [obj["spec"] for obj in found if obj["kind"] == "Deployment"]
        return dict(spec)

    assert of("defaults")["replicas"] == 2
    assert "replicas" not in of("all off")


def test_images_are_named_by_digest_or_else_by_the_charts_version(pods: Pods) -> None:
    def images(choice: str) -> set[str]:
        return {container["image"] for _, pod in pods(choice) for container in pod["spec"]["containers"]}

    version = yaml.safe_load((render.CHART / "Chart.yaml").read_text())["appVersion"]
    assert images("defaults") == {f"modelengine-operator:{version}"}
    assert images("all on") == {"modelengine-operator@sha256:" + "a" * 64}


def test_where_pods_run_is_for_all_of_them(pods: Pods) -> None:
    for name, pod in pods("all on"):
        spec = pod["spec"]
        assert spec["nodeSelector"] == {"disk": "fast"}, name
        assert spec["tolerations"] == [{"operator": "Exists"}], name
        assert "nodeAffinity" in spec["affinity"], name
        assert spec["priorityClassName"] == "high", name
        assert spec["imagePullSecrets"] == [{"name": "one"}, {"name": "two"}], name
        assert pod["metadata"]["labels"]["team"] == "ml", name
        assert pod["metadata"]["annotations"]["note"] == "x", name


def test_the_chart_test_compiles_and_gets_the_models_name(pods: Pods) -> None:
    for choice, model in (("defaults", ""), ("all on", "demo")):
        [container] = [pod["spec"]["containers"][0] for name, pod in pods(choice) if name == "modelengine-test"]
        script, name = container["args"]
        compile(script, "chat.py", "exec")
        assert script == (render.CHART / "files" / "chat.py").read_text()
        assert name == model
        key = {"secretKeyRef": {"name": "test-key", "key": "key"}}
        with_key = [{"name": "MODELENGINE_API_KEY", "valueFrom": key}] if choice == "all on" else []
        assert container["env"] == [{"name": "MODELENGINE_HOST", "value": "modelengine.home:9527"}, *with_key]


def test_hooks_come_in_the_order_in_which_they_need_each_other(rendered: dict[str, list[Object]]) -> None:
    for choice in ("defaults", "namespaces"):
        hooks = [
            (int(annotations["helm.sh/hook-weight"]), obj["kind"].removeprefix("Cluster"))
            for obj in rendered[choice]
            if (annotations := obj["metadata"].get("annotations") or {}).get("helm.sh/hook") == "post-delete"
        ]
        kinds_in_order = [kind for _, kind in sorted(hooks)]
        assert kinds_in_order == sorted(kinds_in_order, key=["ServiceAccount", "Role", "RoleBinding", "Job"].index)
        assert kinds_in_order[-1] == "Job"
    assert not any(obj["kind"] == "Job" for obj in rendered["all off"])


def test_nothing_has_a_finalizer(rendered: dict[str, list[Object]]) -> None:
    assert not any("finalizers" in obj["metadata"] for objects in rendered.values() for obj in objects)
