"""The objects of a ModelEngine: their names and owners, their pods, and that no field of the spec gives them rights."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given as given_any
from hypothesis import strategies as st

import crd_values
import samples
from modelengine import kinds
from modelengine_kube import resources
from modelengine_operator import manifests, podspec
from modelengine_operator.runtime import RESERVED_ENV, RESERVED_PREFIX
from modelengine_operator.spec import NAME_LENGTH, Engine
from modelengine_runtime import settings as runtime_settings
from samples import SETTINGS

Object = dict[str, Any]
ROOT = Path(__file__).parents[2]
HUB = {"model": {"source": "hf://Qwen/Qwen3@main"}}
EXAMPLES = [yaml.safe_load(path.read_text())["spec"] for path in sorted((ROOT / "examples").glob("*.yaml"))]
ROWS = [spec for row in crd_values.ROWS for spec in row.specs()]
SPECS = [*EXAMPLES, *ROWS]
ENGINES = [samples.engine("qwen", spec) for spec in SPECS]


def made(engine: Engine) -> dict[resources.Resource, Object]:
    return dict(manifests.all_of(engine, SETTINGS))


def pod(given: Object | None = None) -> Object:
    return podspec.of(samples.engine("qwen", given), SETTINGS)


def containers(of: Object) -> list[Object]:
    return [*of.get("initContainers", ()), *of["containers"]]


def engine_of(of: Object) -> Object:
    [engine] = of["containers"]
    return dict(engine)


def fetch_of(of: Object) -> Object:
    [fetch] = of["initContainers"]
    return dict(fetch)


def env(container: Object) -> dict[str, Any]:
    names = [variable["name"] for variable in container["env"]]
    assert len(names) == len(set(names)), "one name twice"
    return {variable["name"]: variable.get("value", variable.get("valueFrom")) for variable in container["env"]}


def volumes(of: Object) -> dict[str, Object]:
    return {volume["name"]: {k: v for k, v in volume.items() if k != "name"} for volume in of["volumes"]}


def mounts(container: Object) -> dict[str, Object]:
    return {m["mountPath"]: {k: v for k, v in m.items() if k != "mountPath"} for m in container["volumeMounts"]}


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)
    elif isinstance(value, str):
        yield value


# What each object is.


def test_a_small_one_has_four_objects_in_the_order_in_which_pods_need_them() -> None:
    assert [resource.kind for resource in made(samples.engine())] == [
        "ServiceAccount",
        "Service",
        "PodDisruptionBudget",
        "Deployment",
    ]


def test_a_cache_of_a_size_has_its_claim_first() -> None:
    cache = {"size": "20Gi", "storageClass": "fast", "accessMode": "ReadWriteMany"}
    all_made = made(samples.engine("qwen", HUB | {"cache": cache}))
    assert next(iter(all_made)) is resources.CLAIMS
    claim = all_made[resources.CLAIMS]
    assert claim["metadata"]["name"] == "qwen-cache"
    assert claim["spec"] == {
        "accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": "20Gi"}},
        "storageClassName": "fast",
    }


def test_a_claim_without_a_class_leaves_it_to_the_cluster() -> None:
    claim = made(samples.engine("qwen", HUB | {"cache": {"size": "1Gi"}}))[resources.CLAIMS]
    assert claim["spec"] == {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}


@pytest.mark.parametrize("given", [{}, HUB, HUB | {"cache": {"claim": "models"}}])
def test_no_claim_is_made_without_a_size(given: Object) -> None:
    assert resources.CLAIMS not in made(samples.engine("qwen", given))


def test_every_object_has_its_name_its_labels_and_its_owner() -> None:
    for resource, manifest in made(samples.engine("qwen", HUB | {"cache": {"size": "1Gi"}})).items():
        assert (manifest["apiVersion"], manifest["kind"]) == (resource.api_version, resource.kind)
        meta = manifest["metadata"]
        assert (meta["namespace"], meta["name"]) == ("team", manifests.name_of("qwen", resource))
        assert meta["labels"] == {
            "app.kubernetes.io/name": "modelengine-engine",
            "app.kubernetes.io/instance": "qwen",
            "app.kubernetes.io/component": "engine",
            "app.kubernetes.io/managed-by": "modelengine-operator",
            "modelengine.dev/engine": "qwen",
        }
        assert meta["ownerReferences"] == [
            {
                "apiVersion": "modelengine.dev/v1alpha1",
                "kind": "ModelEngine",
                "name": "qwen",
                "uid": "uid-qwen",
                "controller": True,
                "blockOwnerDeletion": False,
            }
        ]
    assert {manifests.name_of("qwen", resource) for resource in made(samples.engine())} == {"qwen-engine"}


def test_the_service_and_the_budget_select_its_pods() -> None:
    all_made = made(samples.engine())
    deployment = all_made[resources.DEPLOYMENTS]["spec"]
    selector = deployment["selector"]["matchLabels"]
    assert selector == {"app.kubernetes.io/name": "modelengine-engine", "modelengine.dev/engine": "qwen"}
    assert selector.items() <= deployment["template"]["metadata"]["labels"].items()
    assert all_made[resources.SERVICES]["spec"] == {
        "selector": selector,
        "ports": [{"name": "http", "port": 8000, "targetPort": "http", "protocol": "TCP", "appProtocol": "http"}],
    }
    assert all_made[resources.BUDGETS]["spec"] == {
        "maxUnavailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": selector},
    }


def test_the_account_of_its_pods_has_no_token() -> None:
    all_made = made(samples.engine())
    account = all_made[resources.SERVICE_ACCOUNTS]
    assert account["automountServiceAccountToken"] is False
    assert pod()["serviceAccountName"] == account["metadata"]["name"]


def test_what_a_pod_serves_is_written_on_it() -> None:
    given = {"model": {"source": "demo://", "name": "Qwen/Qwen3"}}
    template = made(samples.engine("qwen", given))[resources.DEPLOYMENTS]["spec"]["template"]
    assert template["metadata"]["annotations"] == {
        "modelengine.dev/served-name": "Qwen/Qwen3",
        "modelengine.dev/protocol": "chat",
        "kubectl.kubernetes.io/default-container": "engine",
    }


@pytest.mark.parametrize(
    ("rollout", "surge", "unavailable"), [({}, 1, 0), ({"rollout": "Surge"}, 1, 0), ({"rollout": "InPlace"}, 0, 1)]
)
def test_a_change_reaches_the_pods_as_the_user_wants(rollout: Object, surge: int, unavailable: int) -> None:
    deployment = made(samples.engine("qwen", rollout | {"replicas": 3}))[resources.DEPLOYMENTS]["spec"]
    assert deployment["replicas"] == 3
    assert deployment["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable},
    }


def test_a_longest_name_fits_wherever_it_stands() -> None:
    name = "q" * NAME_LENGTH
    for resource, manifest in made(samples.engine(name, HUB | {"cache": {"size": "1Gi"}})).items():
        assert len(manifest["metadata"]["name"]) <= 63, resource.kind
        assert all(len(value) <= 63 for value in manifest["metadata"]["labels"].values())


def test_the_same_gives_the_same_text_in_every_process() -> None:
    script = (
        "import json, samples, crd_values; from modelengine_operator import manifests;"
        "e = samples.engine('qwen', crd_values.FULL);"
        "print(json.dumps([m for _, m in manifests.all_of(e, samples.SETTINGS)]))"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), *sys.path])},
            check=True,
            capture_output=True,
            timeout=60,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(told) == 1
    here = [manifest for _, manifest in manifests.all_of(samples.engine("qwen", crd_values.FULL), SETTINGS)]
    assert json.loads(told.pop()) == here


def test_another_wish_has_another_hash_and_another_order_has_not() -> None:
    def digest(given: Object) -> str:
        return str(
            made(samples.engine("qwen", given))[resources.DEPLOYMENTS]["metadata"]["annotations"][
                manifests.ANNOTATION_APPLIED
            ]
        )

    one = {"nodeSelector": {"a": "1", "b": "2"}}
    assert digest(one) == digest({"nodeSelector": {"b": "2", "a": "1"}})
    assert digest(one) != digest({"nodeSelector": {"a": "1"}})
    assert digest(one) != digest(one | {"replicas": 2})


# What is in the pod.


def test_the_demo_needs_no_volume_but_scratch() -> None:
    assert volumes(pod()) == {"tmp": {"emptyDir": {}}, "shm": {"emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}}}
    assert mounts(engine_of(pod())) == {"/tmp": {"name": "tmp"}, "/dev/shm": {"name": "shm"}}
    assert env(engine_of(pod()))["MODELENGINE_MODEL_SOURCE"] == "demo://"
    assert "initContainers" not in pod()


@pytest.mark.parametrize(
    ("cache", "volume"),
    [
        (None, {"emptyDir": {}}),
        ({"claim": "downloads"}, {"persistentVolumeClaim": {"claimName": "downloads"}}),
        ({"size": "1Gi"}, {"persistentVolumeClaim": {"claimName": "qwen-cache"}}),
    ],
)
def test_a_model_of_the_hub_is_fetched_into_the_cache_first(cache: Object | None, volume: Object) -> None:
    found = pod(HUB | ({"cache": cache} if cache else {}))
    assert volumes(found)["cache"] == volume
    engine, fetch = engine_of(found), fetch_of(found)
    assert fetch["name"] == kinds.FETCH_CONTAINER
    assert fetch["image"] == engine["image"]
    assert fetch["command"] == ["python", "-m", "modelengine_runtime.fetch"]
    assert mounts(fetch) == {"/cache": {"name": "cache"}, "/tmp": {"name": "tmp"}}
    assert mounts(engine)["/cache"] == {"name": "cache"}
    assert env(fetch) == {
        "MODELENGINE_MODEL_SOURCE": "hf://Qwen/Qwen3@main",
        "MODELENGINE_LISTEN_HOST": "0.0.0.0",
        "MODELENGINE_LISTEN_PORT": "8000",
        "MODELENGINE_LOG_FORMAT": "json",
        "HF_HOME": "/cache",
        "HOME": "/tmp",
        "HF_TOKEN": {"secretKeyRef": {"name": "modelengine-hub-token", "key": "token", "optional": True}},
    }
    assert env(engine).items() >= {"HF_HOME": "/cache", "HF_HUB_OFFLINE": "1"}.items()
    assert env(engine)["MODELENGINE_MODEL_SOURCE"] == "hf://Qwen/Qwen3@main"


def test_another_hub_is_told_to_the_fetcher_alone() -> None:
    settings = dataclasses.replace(SETTINGS, hub_endpoint="https://hub.example")
    found = podspec.of(samples.engine("qwen", HUB), settings)
    assert env(fetch_of(found))["HF_ENDPOINT"] == "https://hub.example"
    assert "HF_ENDPOINT" not in env(engine_of(found))


@pytest.mark.parametrize(("source", "sub_path"), [("pvc://models", {}), ("pvc://models/a/b", {"subPath": "a/b"})])
def test_a_folder_of_a_claim_is_mounted_read_only(source: str, sub_path: Object) -> None:
    found = pod({"model": {"source": source}})
    assert volumes(found)["model"] == {"persistentVolumeClaim": {"claimName": "models", "readOnly": True}}
    assert mounts(engine_of(found))["/model"] == {"name": "model", "readOnly": True} | sub_path
    assert env(engine_of(found))["MODELENGINE_MODEL_SOURCE"] == "/model"
    assert "initContainers" not in found


def test_an_image_that_holds_the_model_is_mounted_read_only() -> None:
    found = pod({"model": {"source": "oci://registry.example/model:1"}})
    image = {"reference": "registry.example/model:1", "pullPolicy": "IfNotPresent"}
    assert volumes(found)["model"] == {"image": image}
    assert mounts(engine_of(found))["/model"] == {"name": "model", "readOnly": True}
    assert env(engine_of(found))["MODELENGINE_MODEL_SOURCE"] == "/model"


def test_the_engine_is_told_how_to_run_in_words_that_it_reads() -> None:
    runtime = {"device": "cpu", "dtype": "float32", "maxBatchSize": 7, "maxContext": 8, "maxQueue": 9, "threads": 3}
    runtime["quantization"] = "int4"
    found = env(
        engine_of(pod({"runtime": runtime, "gracePeriodSeconds": 33, "model": {"source": "demo://", "name": "n"}}))
    )
    read = runtime_settings.from_env(found)
    assert (read.device, read.dtype, read.max_batch_size, read.max_context) == ("cpu", "float32", 7, 8)
    assert read.quantization == "int4"
    assert (read.max_queue, read.threads, read.grace_s) == (9, 3, 33)
    assert (read.model_source, read.model_name) == ("demo://", "n")
    assert (read.listen_host, read.listen_port, read.nameserver) == ("0.0.0.0", 8000, "")
    assert runtime_settings.from_env(env(fetch_of(pod(HUB)))).model_source == HUB["model"]["source"]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_engine_takes_every_setting_that_the_schema_allows(engine: Engine) -> None:
    runtime_settings.from_env(env(engine_of(podspec.of(engine, SETTINGS))))


def test_a_user_s_variables_come_last_and_can_not_be_ours() -> None:
    found = pod({"runtime": {"env": [{"name": "B", "value": "$(HOME)"}, {"name": "A"}]}})
    assert [variable["name"] for variable in engine_of(found)["env"]][-2:] == ["B", "A"]
    ours = {name for container in containers(pod(HUB)) for name in env(container)}
    assert all(name.startswith(RESERVED_PREFIX) or name in RESERVED_ENV for name in ours)
    assert "B" not in env(fetch_of(pod(HUB | {"runtime": {"env": [{"name": "B", "value": "1"}]}})))


@pytest.mark.parametrize("protocol", ["chat", "embed", "rerank"])
def test_the_engine_and_the_registry_are_told_what_the_model_is_asked_for(protocol: str) -> None:
    given = {"model": {"source": "demo://"}, "protocol": protocol}
    assert env(engine_of(pod(given)))["MODELENGINE_PROTOCOL"] == protocol
    template = made(samples.engine("qwen", given))[resources.DEPLOYMENTS]["spec"]["template"]
    assert template["metadata"]["annotations"]["modelengine.dev/protocol"] == protocol


def test_a_served_name_is_no_place_for_variables() -> None:
    given = {
        "model": {"source": "demo://", "name": "a$(HOME)$b"},
        "runtime": {"env": [{"name": "A", "value": "$(HOME)"}]},
    }
    found = env(engine_of(pod(given)))
    assert found["MODELENGINE_MODEL_NAME"] == "a$$(HOME)$$b"
    assert found["A"] == "$(HOME)"


def test_stopping_has_time_for_being_unlisted_for_open_answers_and_for_the_last_words() -> None:
    found = pod({"gracePeriodSeconds": 100})
    [engine] = found["containers"]
    pause_s = engine["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert found["terminationGracePeriodSeconds"] == pause_s + 100 + 10
    assert int(env(engine)["MODELENGINE_GRACE_S"]) == 100
    assert pause_s == 5


def test_a_slow_start_is_waited_for_and_a_dead_engine_is_not() -> None:
    engine = engine_of(pod({"startupSeconds": 7200}))
    startup, live, ready = (engine[f"{kind}Probe"] for kind in ("startup", "liveness", "readiness"))
    assert startup["httpGet"] == ready["httpGet"] == {"path": "/ready", "port": "http"}
    assert live["httpGet"] == {"path": "/health", "port": "http"}
    assert startup["periodSeconds"] * startup["failureThreshold"] == 7200
    assert ready["periodSeconds"] * ready["failureThreshold"] <= 5
    assert 20 <= live["periodSeconds"] * live["failureThreshold"] <= 60
    deployment = made(samples.engine("qwen", {"startupSeconds": 7200}))[resources.DEPLOYMENTS]["spec"]
    assert deployment["progressDeadlineSeconds"] > 7200


def test_devices_are_the_engine_s_alone_and_a_quota_finds_limits_in_both() -> None:
    wanted = {"limits": {"nvidia.com/gpu": 1, "memory": "8Gi"}, "requests": {"cpu": "2", "nvidia.com/gpu": 1}}
    found = pod(HUB | {"resources": wanted})
    assert engine_of(found)["resources"] == {
        "limits": {"nvidia.com/gpu": "1", "memory": "8Gi"},
        "requests": {"cpu": "2", "nvidia.com/gpu": "1"},
    }
    assert fetch_of(found)["resources"] == {"limits": {"memory": "8Gi"}, "requests": {"cpu": "2"}}
    assert fetch_of(pod(HUB))["resources"] == engine_of(pod(HUB))["resources"] == {}


def test_where_pods_may_run_is_as_the_user_says() -> None:
    wanted = {
        key: crd_values.FULL[key] for key in ("nodeSelector", "affinity", "priorityClassName", "imagePullSecrets")
    }
    found = pod(wanted)
    assert {key: found[key] for key in wanted} == wanted
    assert not {"nodeSelector", "affinity", "priorityClassName", "imagePullSecrets"} & pod().keys()


def test_a_silent_node_is_left_soon_unless_the_user_says_otherwise() -> None:
    keys = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"]
    assert [(t["key"], t["tolerationSeconds"]) for t in pod()["tolerations"]] == [(key, 30) for key in keys]
    own = {"key": keys[0], "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 900}
    gpu = {"key": "gpu", "operator": "Exists"}
    found = pod({"tolerations": [own, gpu]})["tolerations"]
    assert found[:2] == [own, gpu]
    assert [toleration["key"] for toleration in found[2:]] == keys[1:]


def test_replicas_are_spread_over_nodes_where_there_are_several() -> None:
    [constraint] = pod()["topologySpreadConstraints"]
    assert (constraint["topologyKey"], constraint["whenUnsatisfiable"]) == ("kubernetes.io/hostname", "ScheduleAnyway")
    assert constraint["labelSelector"]["matchLabels"] == kinds.selector("qwen")


def test_another_image_is_run_by_both_containers() -> None:
    found = pod(HUB | {"runtime": {"image": "registry.example/other/engine:2"}})
    assert {container["image"] for container in containers(found)} == {"registry.example/other/engine:2"}
    assert {container["image"] for container in containers(pod(HUB))} == {SETTINGS.engine_image}
    assert {container["imagePullPolicy"] for container in containers(found)} == {"IfNotPresent"}


# What no field of the spec changes.

POD_FIELDS = {
    "affinity",
    "automountServiceAccountToken",
    "containers",
    "enableServiceLinks",
    "imagePullSecrets",
    "initContainers",
    "nodeSelector",
    "priorityClassName",
    "securityContext",
    "serviceAccountName",
    "terminationGracePeriodSeconds",
    "tolerations",
    "topologySpreadConstraints",
    "volumes",
}
CONTAINER_FIELDS = {
    "command",
    "env",
    "image",
    "imagePullPolicy",
    "lifecycle",
    "livenessProbe",
    "name",
    "ports",
    "readinessProbe",
    "resources",
    "securityContext",
    "startupProbe",
    "terminationMessagePolicy",
    "volumeMounts",
}


def check_rights(engine: Engine) -> None:
    found = podspec.of(engine, SETTINGS)
    assert found.keys() <= POD_FIELDS
    # As Pod Security's level "restricted" has it, and more.
    security = found["securityContext"]
    assert security["runAsNonRoot"] is True
    assert (security["runAsUser"], security["runAsGroup"], security["fsGroup"]) == (10001, 10001, 10001)
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert found["automountServiceAccountToken"] is False
    assert found["enableServiceLinks"] is False
    assert found["serviceAccountName"] == f"{engine.name}-engine"
    for volume in volumes(found).values():
        assert volume.keys() <= {"emptyDir", "persistentVolumeClaim", "image"}
        assert len(volume) == 1
    assert [container["name"] for container in containers(found)][-1] == "engine"
    for container in containers(found):
        assert container.keys() <= CONTAINER_FIELDS
        assert container["command"][:2] == ["python", "-m"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        assert all("hostPort" not in port for port in container.get("ports", ()))
        secrets = {name for name, value in env(container).items() if not isinstance(value, str)}
        assert secrets == ({"HF_TOKEN"} if container["name"] == "fetch" else set())
    assert sum("hub-token" in text for text in strings(found)) == (1 if engine.source.kind == "hub" else 0)


@pytest.mark.parametrize("engine", ENGINES)
def test_no_field_gives_its_pod_rights(engine: Engine) -> None:
    check_rights(engine)


@given_any(st.lists(st.sampled_from(ROWS), min_size=1, max_size=4))
def test_no_fields_together_give_their_pod_rights(specs: list[Object]) -> None:
    merged: Object = {}
    for one in specs:
        merged |= {
            key: value for key, value in one.items() if key not in merged or merged[key] == crd_values.FULL.get(key)
        }
    if not merged["model"]["source"].startswith("hf://"):
        merged.pop("cache", None)
    check_rights(samples.engine("qwen", merged))


def test_nothing_is_left_of_a_user_s_text_but_where_it_belongs() -> None:
    marked = {"model": {"source": "demo://", "name": "MARK"}, "runtime": {"env": [{"name": "MARK", "value": "MARK"}]}}
    found = made(samples.engine("qwen", marked))
    where = [re.sub(r"\d+", "", path) for manifest in found.values() for path in paths(manifest, "MARK")]
    assert sorted(set(where)) == [
        ".spec.template.metadata.annotations.modelengine.dev/served-name",
        ".spec.template.spec.containers[].env[].name",
        ".spec.template.spec.containers[].env[].value",
    ]


def paths(value: Any, text: str, path: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths(inner, text, f"{path}.{key}")
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from paths(inner, text, f"{path}[{i}]")
    elif value == text:
        yield path
