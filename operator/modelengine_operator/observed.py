"""What is known about one ModelEngine at one moment: all that its plan and its status are decided from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelengine.registry_configmap import Service
from modelengine_kube.resources import Resource
from modelengine_operator.podstate import PodState
from modelengine_operator.spec import Engine

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a pod that is not ready has come, as it says itself; `bytes` and `total` where it downloads."""

    stage: str
    bytes: int | None = None
    total: int | None = None


def most_telling(told: Iterable[Progress | None]) -> Progress | None:
    """The one that counts bytes rather than one that waits for it; of several the one that has most."""
    said = [progress for progress in told if progress is not None]
    return max(said, key=lambda progress: (progress.total is not None, progress.bytes or 0), default=None)


@dataclass(frozen=True, slots=True)
class Observed:
    """The world around one ModelEngine.

    `obj` is the object itself, `engine` what it says, None where it can't be read (`invalid` has the reason).
    `children` are the objects under the names of its own, whoever made them. `name_owner` is the ModelEngine that has
    the served name, when that is another one.
    """

    obj: Object
    engine: Engine | None
    invalid: str = ""
    children: Mapping[Resource, Object] = field(default_factory=dict)
    pods: Sequence[PodState] = ()
    listed: Sequence[Service] = ()
    name_owner: str | None = None
    is_left_out: bool = False
    progress: Progress | None = None
    facts: Mapping[str, Any] | None = None
    # What the API server answered when it refused to take one of the children.
    refusal: str = ""
