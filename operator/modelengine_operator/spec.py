"""What a user writes in a ModelEngine: the one typed source of its fields, their bounds, defaults and descriptions.

`crd.py` makes the CRD and the reference page from these records; the operator reads every object with `parse`. It stays
light: no kopf, no Kubernetes client.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le, MaxLen, MinLen
from pydantic import ConfigDict, Field, ValidationError, ValidationInfo, field_validator

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
    by_key,
    form,
    rule,
    rules,
)
from modelengine_operator.runtime import Runtime
from modelengine_operator.scheduling import Affinity, Toleration
from modelengine_operator.storage import Cache, ShmSize

NAME_LENGTH = 50
NAME = r"[a-z]([a-z0-9-]*[a-z0-9])?"
HUB_ONLY_MESSAGE = "only an hf:// source is downloaded and needs a cache: remove cache"
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


class PullSecret(Record):
    """A Secret that holds the login of an image registry."""

    name: Name = Field(description="Its name, in this namespace.")


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
    protocol: Literal["chat", "embed", "rerank"] = Field(
        default="chat",
        description="What the model is asked for: chat, embed (vectors of texts), rerank (how well documents answer a "
        "query). Default: chat.",
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
