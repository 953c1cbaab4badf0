"""The engine's pod: its containers, what they may do (nothing), where the model is, and when they count as started.

Pure. A ModelEngine can't gain rights by it: there is no token, no host path, no host network, no user 0, and the one
Secret that is read goes to the fetch container alone.
"""

from __future__ import annotations

from typing import Any

from modelengine import kinds
from modelengine.env import DEFAULT_METRICS_PORT
from modelengine_operator.settings import Settings
from modelengine_operator.spec import Engine

Manifest = dict[str, Any]

USER = 10001
CACHE_FOLDER = "/cache"
MODEL_FOLDER = "/model"
# Between being taken off the lists and SIGTERM: a caller who has just looked the pod up still finds it.
UNLISTED_S = 5
# After the engine's own grace: what it takes to say good-bye and exit.
LAST_WORDS_S = 10
# How long a pod stays bound to a node that has gone silent.
NODE_SILENCE_S = 30

SECURITY = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


def of(engine: Engine, settings: Settings) -> Manifest:
    spec = engine.spec
    pod: Manifest = {
        "serviceAccountName": kinds.child_name(engine.name),
        "automountServiceAccountToken": False,
        # Else every Service of the namespace becomes environment variables.
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": UNLISTED_S + spec.grace_period_seconds + LAST_WORDS_S,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            # Chowning a cache of many gigabytes at each start takes minutes.
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumes": _volumes(engine),
        "containers": [_engine(engine, settings)],
        "tolerations": [t.manifest() for t in spec.tolerations] + _silent_node_tolerations(engine),
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": dict(kinds.selector(engine.name))},
            }
        ],
    }
    if engine.source.kind == "hub":
        pod["initContainers"] = [_fetch(engine, settings)]
    if spec.node_selector:
        pod["nodeSelector"] = dict(spec.node_selector)
    if spec.affinity is not None:
        pod["affinity"] = spec.affinity.manifest()
    if spec.priority_class_name is not None:
        pod["priorityClassName"] = spec.priority_class_name
    if spec.image_pull_secrets:
        pod["imagePullSecrets"] = [secret.manifest() for secret in spec.image_pull_secrets]
    return pod


def image_of(engine: Engine, settings: Settings) -> str:
    return engine.spec.runtime.image or settings.engine_image


def _engine(engine: Engine, settings: Settings) -> Manifest:
    runtime = engine.spec.runtime
    model_source = MODEL_FOLDER if engine.source.kind in ("claim", "image") else engine.source.text
    environment = {
        "MODELENGINE_MODEL_SOURCE": model_source,
        "MODELENGINE_MODEL_NAME": engine.served_name,
        "MODELENGINE_PROTOCOL": engine.spec.protocol,
        "MODELENGINE_LISTEN_HOST": "0.0.0.0",
        "MODELENGINE_LISTEN_PORT": str(kinds.ENGINE_PORT),
        "MODELENGINE_DEVICE": runtime.device,
        "MODELENGINE_DTYPE": runtime.dtype,
        "MODELENGINE_QUANTIZATION": runtime.quantization,
        "MODELENGINE_MAX_BATCH_SIZE": str(runtime.max_batch_size),
        "MODELENGINE_MAX_CONTEXT": str(runtime.max_context),
        "MODELENGINE_MAX_QUEUE": str(runtime.max_queue),
        "MODELENGINE_THREADS": str(runtime.threads),
        "MODELENGINE_GRACE_S": str(engine.spec.grace_period_seconds),
        "MODELENGINE_METRICS_PORT": str(DEFAULT_METRICS_PORT),
        "MODELENGINE_LOG_FORMAT": settings.log_format,
        "HOME": "/tmp",
    }
    if engine.source.kind == "hub":
        environment |= {"HF_HOME": CACHE_FOLDER, "HF_HUB_OFFLINE": "1"}
    return {
        "name": kinds.ENGINE_CONTAINER,
        "image": image_of(engine, settings),
        "imagePullPolicy": settings.pull_policy,
        "command": ["python", "-m", "modelengine_runtime"],
        "env": _variables(environment) + [v.manifest() for v in runtime.env],
        "ports": [
            {"name": "http", "containerPort": kinds.ENGINE_PORT, "protocol": "TCP"},
            {"name": "metrics", "containerPort": DEFAULT_METRICS_PORT, "protocol": "TCP"},
        ],
        "volumeMounts": _mounts(engine),
        "securityContext": SECURITY,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "lifecycle": {"preStop": {"sleep": {"seconds": UNLISTED_S}}},
        # Three questions: has it loaded (however long that takes), would a restart help, are requests answered now?
        "startupProbe": _probe("/ready", 1, engine.spec.startup_seconds),
        "livenessProbe": _probe("/health", 10, 3),
        "readinessProbe": _probe("/ready", 2, 2),
        "resources": engine.spec.resources.manifest(),
    }


def _fetch(engine: Engine, settings: Settings) -> Manifest:
    environment = {
        "MODELENGINE_MODEL_SOURCE": engine.source.text,
        "MODELENGINE_LISTEN_HOST": "0.0.0.0",
        "MODELENGINE_LISTEN_PORT": str(kinds.ENGINE_PORT),
        "MODELENGINE_LOG_FORMAT": settings.log_format,
        "HF_HOME": CACHE_FOLDER,
        "HOME": "/tmp",
    }
    if settings.hub_endpoint:
        environment["HF_ENDPOINT"] = settings.hub_endpoint
    secret = {"name": kinds.HUB_TOKEN_SECRET, "key": kinds.HUB_TOKEN_KEY, "optional": True}
    return {
        "name": kinds.FETCH_CONTAINER,
        "image": image_of(engine, settings),
        "imagePullPolicy": settings.pull_policy,
        "command": ["python", "-m", "modelengine_runtime.fetch"],
        "env": [*_variables(environment), {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": secret}}],
        "volumeMounts": [
            {"name": "cache", "mountPath": CACHE_FOLDER},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
        "securityContext": SECURITY,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "resources": _without_devices(engine.spec.resources.manifest()),
    }


def _without_devices(wanted: Manifest) -> Manifest:
    """A quota may want limits of every container. It runs before the engine, so the pod needs no more for it."""
    return {
        kind: {name: amount for name, amount in amounts.items() if "/" not in name} for kind, amounts in wanted.items()
    }


def _volumes(engine: Engine) -> list[Manifest]:
    volumes: list[Manifest] = [
        {"name": "tmp", "emptyDir": {}},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": engine.spec.shm_size}},
    ]
    match engine.source.kind:
        case "hub":
            volumes.append({"name": "cache", **_cache(engine)})
        case "claim":
            claim = {"claimName": engine.source.claim, "readOnly": True}
            volumes.append({"name": "model", "persistentVolumeClaim": claim})
        case "image":
            reference = {"reference": engine.source.image, "pullPolicy": "IfNotPresent"}
            volumes.append({"name": "model", "image": reference})
    return volumes


def _cache(engine: Engine) -> Manifest:
    cache = engine.spec.cache
    if cache is None:
        return {"emptyDir": {}}
    return {"persistentVolumeClaim": {"claimName": cache.claim or kinds.cache_name(engine.name)}}


def _mounts(engine: Engine) -> list[Manifest]:
    mounts: list[Manifest] = [{"name": "tmp", "mountPath": "/tmp"}, {"name": "shm", "mountPath": "/dev/shm"}]
    match engine.source.kind:
        case "hub":
            mounts.append({"name": "cache", "mountPath": CACHE_FOLDER})
        case "claim":
            mount: Manifest = {"name": "model", "mountPath": MODEL_FOLDER, "readOnly": True}
            mounts.append(mount | ({"subPath": engine.source.path} if engine.source.path else {}))
        case "image":
            mounts.append({"name": "model", "mountPath": MODEL_FOLDER, "readOnly": True})
    return mounts


def _silent_node_tolerations(engine: Engine) -> list[Manifest]:
    """Kubernetes' own default is 300 s; a user's own toleration of the same taint wins."""
    taints = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
    own = {toleration.key for toleration in engine.spec.tolerations}
    return [
        {"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": NODE_SILENCE_S}
        for taint in taints
        if taint not in own
    ]


def _variables(environment: dict[str, str]) -> list[Manifest]:
    # Kubernetes would put a variable's value in the place of `$(NAME)`, and a served name may well have that.
    return [{"name": name, "value": value.replace("$", "$$")} for name, value in environment.items()]


def _probe(path: str, period_s: int, failures: int) -> Manifest:
    return {
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": period_s,
        "timeoutSeconds": 3,
        "failureThreshold": failures,
    }
