"""A ModelEngine as the objects that serve it: Deployment, Service, PodDisruptionBudget, ServiceAccount, and a claim.

Pure: the parsed ModelEngine and the operator's settings in, manifests out, always the same for the same input. What is
inside the pod is in `podspec`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from modelengine import kinds
from modelengine_kube import resources
from modelengine_kube.resources import Resource
from modelengine_operator import podspec
from modelengine_operator.settings import Settings
from modelengine_operator.spec import Engine

Manifest = dict[str, Any]

# The hash of what was applied: tells a field that is not wanted any more from one that somebody else set.
ANNOTATION_APPLIED = f"{kinds.GROUP}/applied"
# Beyond what the model may take to load: pulling an image of several gigabytes.
PULL_S = 1800


def all_of(engine: Engine, settings: Settings) -> list[tuple[Resource, Manifest]]:
    """What must be there, in the order in which it is made: a pod's ServiceAccount and claim before the pod."""
    made: list[tuple[Resource, Manifest]] = [
        (resources.SERVICE_ACCOUNTS, {"automountServiceAccountToken": False}),
        (resources.SERVICES, {"spec": _service(engine)}),
        (resources.BUDGETS, {"spec": _budget(engine)}),
        (resources.DEPLOYMENTS, {"spec": _deployment(engine, settings)}),
    ]
    if engine.spec.cache is not None and engine.spec.cache.size is not None:
        made.insert(0, (resources.CLAIMS, {"spec": _claim(engine)}))
    return [(resource, _whole(engine, resource, body)) for resource, body in made]


def name_of(engine: str, resource: Resource) -> str:
    return kinds.cache_name(engine) if resource is resources.CLAIMS else kinds.child_name(engine)


def _whole(engine: Engine, resource: Resource, body: Manifest) -> Manifest:
    manifest = {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {
            "namespace": engine.namespace,
            "name": name_of(engine.name, resource),
            "labels": dict(kinds.labels(engine.name)),
            # The garbage collector deletes it with its ModelEngine, whether or not an operator runs.
            "ownerReferences": [_owner(engine)],
        },
        **body,
    }
    manifest["metadata"]["annotations"] = {ANNOTATION_APPLIED: digest(manifest)}
    return manifest


def _owner(engine: Engine) -> Mapping[str, Any]:
    return {
        "apiVersion": kinds.API_VERSION,
        "kind": kinds.KIND,
        "name": engine.name,
        "uid": engine.uid,
        "controller": True,
        # Blocking would need the right to update the ModelEngine's finalizers, and there are none.
        "blockOwnerDeletion": False,
    }


def digest(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()[:32]


def _service(engine: Engine) -> Manifest:
    return {
        "selector": dict(kinds.selector(engine.name)),
        "ports": [
            {
                "name": "http",
                "port": kinds.ENGINE_PORT,
                "targetPort": "http",
                "protocol": "TCP",
                "appProtocol": "http",
            }
        ],
    }


def _budget(engine: Engine) -> Manifest:
    # A node's drain takes one replica at a time, and may take the only one, or those that do not answer: it must not
    # hang.
    return {
        "maxUnavailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": dict(kinds.selector(engine.name))},
    }


def _claim(engine: Engine) -> Manifest:
    cache = engine.spec.cache
    assert cache is not None
    claim: Manifest = {
        "accessModes": [cache.access_mode],
        "resources": {"requests": {"storage": cache.size}},
    }
    if cache.storage_class is not None:
        claim["storageClassName"] = cache.storage_class
    return claim


def _deployment(engine: Engine, settings: Settings) -> Manifest:
    new_first = engine.spec.rollout == "Surge"
    return {
        "replicas": engine.spec.replicas,
        "revisionHistoryLimit": 3,
        "progressDeadlineSeconds": engine.spec.startup_seconds + PULL_S,
        "selector": {"matchLabels": dict(kinds.selector(engine.name))},
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}
            if new_first
            else {"maxSurge": 0, "maxUnavailable": 1},
        },
        "template": {
            "metadata": {
                "labels": dict(kinds.labels(engine.name)),
                "annotations": {
                    # What this very pod serves: during a change of the name old pods still serve the old one.
                    kinds.ANNOTATION_SERVED_NAME: engine.served_name,
                    kinds.ANNOTATION_PROTOCOL: engine.spec.protocol,
                    "kubectl.kubernetes.io/default-container": kinds.ENGINE_CONTAINER,
                },
            },
            "spec": podspec.of(engine, settings),
        },
    }
