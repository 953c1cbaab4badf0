"""What a user writes in a ModelEngine: the one typed source of its fields, their bounds, defaults and descriptions.

`crd.py` makes the CRD and the reference page from these records; the operator reads every object with `parse`. It stays
light: no kopf, no Kubernetes client.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from annotated_types import Ge, Le, MaxLen, MinLen
from pydantic import ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from modelengine.errors import InvalidRequest
from modelengine_operator import source
from modelengine_operator.fields import (
    ATOMIC,
    KEYED,
    WHOLE,
    Checked,
    Int,
    LabelKey,
    LabelValue,
    Name,
    Quantity,
    Record,
    Size,
    by_key,
    form,
    in_bytes,
    rule,
    rules,
)
from modelengine_operator.scheduling import Affinity, Toleration

NAME_LENGTH = 50
NAME = r"[a-z]([a-z0-9-]*[a-z0-9])?"
# The operator sets these itself; the hub's token is in a Secret.
RESERVED_PREFIX = "MODELENGINE_"
RESERVED_ENV = ("HOME", "HF_HOME", "HF_HUB_OFFLINE", "HF_ENDPOINT", "HF_TOKEN")
RESERVED_MESSAGE = (
    "MODELENGINE_*, HOME, HF_HOME, HF_HUB_OFFLINE, HF_ENDPOINT and HF_TOKEN are set by the operator: use the fields of "
    "runtime, and the Secret modelengine-hub-token for the hub's token"
)
SHM_MESSAGE = "must be from 1Mi to 1Ti"
HUB_ONLY_MESSAGE = "only an hf:// source is downloaded and needs a cache: remove cache"
CACHE_MESSAGE = "set exactly one of claim (an existing PersistentVolumeClaim) and size (to make one)"


IMAGE_MESSAGE = "must be an image, as in registry.example/team/engine:1.0 or registry.example/team/engine@sha256:..."
ModelSource = Annotated[str, MinLen(1), MaxLen(512), Checked(source.parse, source.checks())]
ServedName = Annotated[
    str, MinLen(1), MaxLen(256), form(r"[^\x00-\x20\x7f]+", "must have no spaces and no control characters")
]


class Model(Record):
    """The model and the name it is served under."""

    name: ServedName | None = Field(
        default=None, description="The name that clients ask for; no spaces. Default: the ModelEngine's own name."
    )
    source: ModelSource = Field(
        description="Where the model's files come from: demo:// (the small bundled model), hf://org/name or "
        "hf://org/name@revision (downloaded from the hub), pvc://claim/path (a folder in an existing "
        "PersistentVolumeClaim), oci://image (an image that holds the files; give its @sha256 digest to pin it).",
    )


def _is_free(name: str) -> None:
    if name.startswith(RESERVED_PREFIX) or name in RESERVED_ENV:
        raise InvalidRequest(RESERVED_MESSAGE)


class EnvironmentVariable(Record):
    """One environment variable of the engine."""

    name: Annotated[
        str,
        MinLen(1),
        MaxLen(128),
        form("[A-Za-z_][A-Za-z0-9_]*", "must be letters, digits and '_', with no digit first"),
        Checked(
            _is_free,
            (
                rule(
                    f"!self.startsWith('{RESERVED_PREFIX}') && !(self in [{', '.join(map(repr, RESERVED_ENV))}])",
                    RESERVED_MESSAGE,
                ),
            ),
        ),
    ] = Field(description="Its name. Names that the operator sets itself are refused, MODELENGINE_* among them.")
    value: Annotated[str, MaxLen(4096)] = Field(
        default="", description="Its value. Default: empty. It is readable by all who may read this object: no secrets."
    )


class Runtime(Record):
    """How the engine runs the model."""

    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="What the model runs on. Default: auto, a GPU where the pod has one, else the CPU."
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="The numbers that the weights are kept in. Default: auto, what suits the device."
    )
    max_batch_size: Annotated[Int, Ge(1), Le(1024)] = Field(
        default=32, description="How many requests are answered at the same time by one replica. Default: 32."
    )
    max_context: Annotated[Int, Ge(0), Le(10_000_000)] = Field(
        default=0,
        description="The most tokens of prompt and answer together; less takes less memory. "
        "Default: 0, what the model was made for.",
    )
    max_queue: Annotated[Int, Ge(0), Le(100_000)] = Field(
        default=256,
        description="How many requests may wait in one replica before it answers that it is busy. Default: 256.",
    )
    threads: Annotated[Int, Ge(0), Le(1024)] = Field(
        default=0, description="CPU threads of the engine. Default: 0, what suits the model and the CPUs it has."
    )
    image: Annotated[str, MinLen(1), MaxLen(512), form(source.IMAGE, IMAGE_MESSAGE)] | None = Field(
        default=None,
        description="Another image for the engine. The operator's allowed images must have it. "
        "Default: the operator's engine image.",
    )
    env: Annotated[tuple[EnvironmentVariable, ...], MaxLen(64)] = Field(
        default=(),
        description="More environment variables for the engine, at most 64.",
        json_schema_extra=by_key("name"),
    )


class Resources(Record):
    """What each engine pod asks for and may use, as in a container."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.requests) || self.requests.all(name, !name.contains('/') || (has(self.limits) && "
                "name in self.limits && string(self.limits[name]) == string(self.requests[name])))",
                "a device such as nvidia.com/gpu has the same number in limits and requests: give it in limits alone",
                ".requests",
            ),
            rule(
                "!has(self.limits) || self.limits.all(name, !name.contains('/') || "
                "string(self.limits[name]).matches('^[0-9]+$'))",
                "a device such as nvidia.com/gpu is counted in whole numbers",
                ".limits",
            ),
        )
    )

    limits: Annotated[Mapping[LabelKey, Quantity], MaxLen(16)] | None = Field(
        default=None,
        description="The most a pod may use, such as memory: 8Gi, and how many GPUs it gets: nvidia.com/gpu: 1.",
        json_schema_extra=KEYED,
    )
    requests: Annotated[Mapping[LabelKey, Quantity], MaxLen(16)] | None = Field(
        default=None,
        description="What a node must have free for a pod. Default: the limits.",
        json_schema_extra=KEYED,
    )


class Cache(Record):
    """Where a downloaded model is kept."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule("has(self.claim) != has(self.size)", CACHE_MESSAGE),
            rule(
                "has(self.size) || !has(self.storageClass)",
                "storageClass is for a claim that is made: remove it, or set size in place of claim",
                ".storageClass",
            ),
            rule(
                "!has(self.size) || !has(oldSelf.size) || quantity(self.size).compareTo(quantity(oldSelf.size)) >= 0",
                "a volume can't shrink: keep the size, or delete the ModelEngine and make it anew",
                ".size",
            ),
            rule(
                "!has(self.size) || !has(oldSelf.size) || (has(self.storageClass) == has(oldSelf.storageClass) "
                "&& (!has(self.storageClass) || self.storageClass == oldSelf.storageClass))",
                "the class of a volume can't be changed: delete the ModelEngine and make it anew",
                ".storageClass",
            ),
            rule(
                "!has(self.size) || !has(oldSelf.size) || self.accessMode == oldSelf.accessMode",
                "the access mode of a volume can't be changed: delete the ModelEngine and make it anew",
                ".accessMode",
            ),
        )
    )

    claim: Name | None = Field(
        default=None,
        description="An existing PersistentVolumeClaim in this namespace. Several ModelEngines may share it.",
    )
    size: Size | None = Field(
        default=None,
        description="Make a PersistentVolumeClaim of this size, such as 20Gi. It goes with the ModelEngine.",
    )
    storage_class: Name | None = Field(
        default=None, description="The StorageClass of the claim that is made. Default: the cluster's own."
    )
    access_mode: Literal["ReadWriteOnce", "ReadWriteMany"] = Field(
        default="ReadWriteOnce",
        description="ReadWriteOnce: pods of one node use it. ReadWriteMany: pods of all nodes, where the class can. "
        "Default: ReadWriteOnce.",
    )

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if (self.claim is None) == (self.size is None):
            raise ValueError(CACHE_MESSAGE)
        return self


class PullSecret(Record):
    """A Secret that holds the login of an image registry."""

    name: Name = Field(description="Its name, in this namespace.")


def _is_shm_size(size: str) -> None:
    if not in_bytes("1Mi") <= in_bytes(size) <= in_bytes("1Ti"):
        raise InvalidRequest(SHM_MESSAGE)


ShmSize = Annotated[
    Size,
    Checked(
        _is_shm_size,
        (
            rule(
                "!isQuantity(self) || "
                "(quantity(self).compareTo(quantity('1Mi')) >= 0 && quantity(self).compareTo(quantity('1Ti')) <= 0)",
                SHM_MESSAGE,
            ),
        ),
    ),
]


class Spec(Record):
    """What to serve, and how."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.cache) || self.model.source.startsWith('hf://')",
                HUB_ONLY_MESSAGE,
                ".cache",
            )
        )
    )

    model: Model = Field(description="The model and the name it is served under.")
    protocol: Literal["chat"] = Field(
        default="chat", description="What the model is asked for. Default: chat, the only one."
    )
    runtime: Runtime = Field(default=Runtime(), description="How the engine runs the model.")
    replicas: Annotated[Int, Ge(0), Le(1000)] = Field(
        default=1, description="How many engine pods serve the model, 0 to 1000. Default: 1."
    )
    resources: Resources = Field(
        default=Resources(), description="What each engine pod asks for and may use, as in a container."
    )
    node_selector: Annotated[Mapping[LabelKey, LabelValue], MaxLen(32)] | None = Field(
        default=None,
        description="Labels that a node must have for engine pods to run there.",
        json_schema_extra=WHOLE | KEYED,
    )
    tolerations: Annotated[tuple[Toleration, ...], MaxLen(32)] = Field(
        default=(),
        description="Taints of nodes that do not keep engine pods away, as in a pod.",
        json_schema_extra=ATOMIC,
    )
    affinity: Affinity | None = Field(
        default=None, description="Nodes and other pods that engine pods keep to, or away from, as in a pod."
    )
    priority_class_name: Name | None = Field(default=None, description="The PriorityClass of engine pods.")
    image_pull_secrets: Annotated[tuple[PullSecret, ...], MaxLen(16)] = Field(
        default=(),
        description="Secrets in this namespace with logins of image registries, for the engine's image and for oci://.",
        json_schema_extra=by_key("name"),
    )
    cache: Cache | None = Field(
        default=None,
        description="Where an hf:// model is kept after its download. Default: in the pod, so that each new pod "
        "downloads it again.",
    )
    shm_size: ShmSize = Field(
        default="64Mi",
        description="The size of /dev/shm, memory that the engine's processes share; it counts as the pod's memory. "
        "Default: 64Mi.",
    )
    grace_period_seconds: Annotated[Int, Ge(0), Le(3600)] = Field(
        default=60,
        description="How long answers that have begun may go on, in seconds, when their pod is stopped. Default: 60.",
    )
    startup_seconds: Annotated[Int, Ge(10), Le(86_400)] = Field(
        default=3600,
        description="How long a pod may take, in seconds, to load the model before it is restarted. Default: 3600.",
    )
    rollout: Literal["Surge", "InPlace"] = Field(
        default="Surge",
        description="How a change reaches the pods. Surge: a new pod is ready before an old one goes. InPlace: an old "
        "one goes first, for when no spare GPU exists. Default: Surge.",
    )

    @field_validator("cache")
    @classmethod
    def _caches_what_is_downloaded(cls, cache: Cache | None, info: ValidationInfo) -> Cache | None:
        model = info.data.get("model")
        if cache is not None and model is not None and not model.source.startswith("hf://"):
            raise ValueError(HUB_ONLY_MESSAGE)
        return cache


@dataclass(frozen=True, slots=True)
class Engine:
    """A ModelEngine as the operator sees it: its identity and its spec, parsed once."""

    namespace: str
    name: str
    uid: str
    generation: int
    created: datetime
    is_deleting: bool
    spec: Spec

    @property
    def served_name(self) -> str:
        """The name that clients ask for."""
        return self.spec.model.name or self.name

    @property
    def source(self) -> source.Source:
        return source.parse(self.spec.model.source)


def parse(obj: Mapping[str, Any]) -> Engine:
    """From the object as the API server gives it. Raises InvalidRequest that names the field, if it was stored before a
    rule of today."""
    metadata = obj["metadata"]
    try:
        spec = Spec.model_validate(obj.get("spec", {}))
    except ValidationError as broken:
        raise _explained(broken) from broken
    return Engine(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata["generation"],
        created=datetime.fromisoformat(metadata["creationTimestamp"]),
        is_deleting="deletionTimestamp" in metadata,
        spec=spec,
    )


def _explained(broken: ValidationError) -> InvalidRequest:
    details = [
        {"loc": _path(fault["loc"]), "msg": _words(fault["type"], fault["msg"])}
        for fault in broken.errors(include_url=False, include_context=False, include_input=False)
    ]
    return InvalidRequest(f"{details[0]['loc']}: {details[0]['msg']}", details=details)


def _path(loc: tuple[int | str, ...]) -> str:
    return "spec" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)


def _words(kind: str, message: str) -> str:
    known = {"missing": "is required", "extra_forbidden": "unknown field"}
    return known.get(kind) or message.removeprefix("Value error, ").replace("Input should", "must")
