"""ModelEngines, their pods and their objects as an API server gives them: for tests of the operator's decisions."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from modelengine import kinds
from modelengine.protocol import ServerInfo
from modelengine.registry_configmap import Service
from modelengine_kube import resources
from modelengine_operator import manifests, spec
from modelengine_operator.observed import Observed
from modelengine_operator.podstate import PodState, Trouble
from modelengine_operator.settings import Settings
from modelengine_operator.spec import Engine

Object = dict[str, Any]
NOW = datetime.datetime(2026, 11, 24, 12, 0, tzinfo=datetime.UTC)
SETTINGS = Settings(
    namespace="home",
    namespaces=(),
    identity="operator-1",
    engine_image="registry.example/engine:1",
    pull_policy="IfNotPresent",
    allowed_images=("registry.example/other/*",),
    hub_endpoint="",
    health_port=8080,
    log_level="INFO",
)


def modelengine(name: str = "qwen", given: Mapping[str, Any] | None = None, **metadata: Any) -> Object:
    """A ModelEngine; `given` is more of its spec."""
    return {
        "apiVersion": kinds.API_VERSION,
        "kind": kinds.KIND,
        "metadata": {
            "namespace": "team",
            "name": name,
            "uid": f"uid-{name}",
            "generation": 3,
            "resourceVersion": "70",
            "creationTimestamp": "2026-11-24T10:00:00Z",
            **metadata,
        },
        "spec": {"model": {"source": "demo://"}, **(given or {})},
    }


def engine(name: str = "qwen", given: Mapping[str, Any] | None = None, **metadata: Any) -> Engine:
    return spec.parse(modelengine(name, given, **metadata))


def state(name: str = "pod-1", *, is_ready: bool = True, trouble: Trouble | None = None, **other: Any) -> PodState:
    """A pod of the ModelEngine qwen, in few words."""
    known: dict[str, Any] = {
        "uid": f"uid-{name}",
        "ip": "10.0.0.1",
        "engine": "qwen",
        "served_name": "qwen",
        "protocol": "chat",
        "is_leaving": False,
        "is_starting": not is_ready and trouble is None,
        "node": "node-1",
    }
    return PodState(name=name, is_ready=is_ready, trouble=trouble, **known | other)


def listed(*pods: PodState) -> list[Service]:
    """What the registry holds of them."""
    return [Service(ServerInfo(p.served_name, p.ip, kinds.ENGINE_PORT, p.protocol), p.uid, p.name) for p in pods]


def deployment_status(replicas: int, updated: int | None = None, conditions: Sequence[Object] = ()) -> Object:
    return {
        "observedGeneration": 1,
        "replicas": replicas,
        "updatedReplicas": replicas if updated is None else updated,
        "conditions": list(conditions),
    }


def children(of: Engine, status: Object | None = None) -> dict[resources.Resource, Object]:
    """All that it has, as the operator made it; `status` is the Deployment's."""
    made = {resource: dict(manifest) for resource, manifest in manifests.all_of(of, SETTINGS)}
    for child in made.values():
        child["metadata"] = {**child["metadata"], "uid": "child", "generation": 1, "resourceVersion": "60"}
    made[resources.DEPLOYMENTS]["status"] = deployment_status(of.spec.replicas) if status is None else status
    return made


def observed(
    pods: Iterable[PodState] = (),
    given: Mapping[str, Any] | None = None,
    *,
    metadata: Mapping[str, Any] | None = None,
    status: Object | None = None,
    **other: Any,
) -> Observed:
    """The world around the ModelEngine qwen: its objects are there, and what of its pods is ready is listed."""
    obj = modelengine("qwen", given, **(metadata or {}))
    if status is not None:
        obj["status"] = status
    parsed, pods = spec.parse(obj), list(pods)
    known: dict[str, Any] = {
        "engine": parsed,
        "children": children(parsed),
        "pods": pods,
        "listed": listed(*(pod for pod in pods if pod.is_ready)),
    }
    return Observed(obj, **known | other)
