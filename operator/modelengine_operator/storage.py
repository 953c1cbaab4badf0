"""Where an engine pod keeps what it does not have in its image: downloads, and memory that its processes share.

The part of a ModelEngine's spec that becomes volumes. Used by spec.py.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from modelengine.errors import InvalidRequest
from modelengine_operator.fields import Checked, Name, Record, Size, in_bytes, rule, rules, size_rule

SHM_MESSAGE = "must be from 1Mi to 1Ti"
CACHE_MESSAGE = "set exactly one of claim (an existing PersistentVolumeClaim) and size (to make one)"


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
                "!has(self.size) || !has(oldSelf.size) || "
                + size_rule(
                    "self.size", "oldSelf.size", holds="quantity(self.size).compareTo(quantity(oldSelf.size)) >= 0"
                ),
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


def _is_shm_size(size: str) -> None:
    if not in_bytes("1Mi") <= in_bytes(size) <= in_bytes("1Ti"):
        raise InvalidRequest(SHM_MESSAGE)


ShmSize = Annotated[
    Size,
    Checked(
        _is_shm_size,
        (
            rule(
                size_rule(
                    "self",
                    holds="(quantity(self).compareTo(quantity('1Mi')) >= 0 && "
                    "quantity(self).compareTo(quantity('1Ti')) <= 0)",
                ),
                SHM_MESSAGE,
            ),
        ),
    ),
]
