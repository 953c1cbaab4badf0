"""What must be written for one ModelEngine: a list of manifests, and nothing when all is as it should be.

Pure. Nothing is planned for an object that can't be read, is being deleted, has not its name or asks for what is not
allowed: what it has goes on as it is. What belongs to somebody else is never written over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum, auto
from typing import Any

from modelengine import kinds
from modelengine_kube.resources import Resource
from modelengine_operator import diff, manifests, podspec
from modelengine_operator.manifests import Manifest
from modelengine_operator.observed import Observed
from modelengine_operator.settings import Settings
from modelengine_operator.spec import Engine

Write = tuple[Resource, Manifest]


class Ownership(Enum):
    OURS = auto()
    # Of a ModelEngine of this name that was deleted; the garbage collector is about to take it.
    PREDECESSOR = auto()
    FOREIGN = auto()


def ownership(engine: Engine, child: Mapping[str, Any]) -> Ownership:
    """Whose the object under one of our names is."""
    for owner in child["metadata"].get("ownerReferences", ()):
        if owner["uid"] == engine.uid:
            return Ownership.OURS
        is_of_our_kind = owner["kind"] == kinds.KIND and owner["apiVersion"].startswith(f"{kinds.GROUP}/")
        if owner.get("controller") and is_of_our_kind and owner["name"] == engine.name:
            return Ownership.PREDECESSOR
    return Ownership.FOREIGN


def writes(observed: Observed, settings: Settings) -> Sequence[Write]:
    """The manifests to apply, in order."""
    engine = observed.engine
    if engine is None or engine.is_deleting or observed.name_owner is not None:
        return ()
    if not settings.allows(podspec.image_of(engine, settings)):
        return ()
    if any(ownership(engine, child) is not Ownership.OURS for child in observed.children.values()):
        return ()
    return [
        (resource, manifest)
        for resource, manifest in manifests.all_of(engine, settings)
        if diff.needs_write(manifest, observed.children.get(resource))
    ]
