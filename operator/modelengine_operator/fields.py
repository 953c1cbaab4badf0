"""What the records of the custom resource are made of: their base, the types that Kubernetes knows and Python does not,
and CEL rules beside the field they are for.

Used by spec.py, scheduling.py and status.py; schema.py turns the result into the CRD's schema.
"""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import MaxLen, MinLen
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema
from pydantic.alias_generators import to_camel

QUANTITY = r"^[0-9]+(\.[0-9]+)?([numkMGTPE]|[KMGTPE]i|e[0-9]{1,2})?$"
SIZE = r"^[0-9]+(\.[0-9]+)?([kMGTP]|[KMGTP]i)?$"
QUANTITY_LENGTH = 24

LABEL = r"[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?"
SUBDOMAIN = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*"


class Record(BaseModel):
    """A frozen part of the resource: Python's names inside, camelCase on the wire; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)

    def manifest(self) -> dict[str, Any]:
        """As it stands in a manifest: camelCase, nothing that was not given."""
        return self.model_dump(by_alias=True, exclude_none=True, mode="json")


def rule(expression: str, message: str, path: str = "") -> dict[str, str]:
    """A CEL rule for the API server to check. `message` names the fix, `path` the field below this that is wrong."""
    return {"rule": expression, "message": message} | ({"fieldPath": path} if path else {})


def rules(*checks: dict[str, str]) -> dict[str, Any]:
    """For `json_schema_extra`, of a field or of a whole record."""
    return {"x-kubernetes-validations": list(checks)}


def by_key(*keys: str) -> dict[str, Any]:
    """For `json_schema_extra` of a list: these fields tell its items apart, so that each may have its own owner."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


ATOMIC: dict[str, Any] = {"x-kubernetes-list-type": "atomic"}
# An object that is taken or replaced as a whole.
WHOLE: dict[str, Any] = {"x-kubernetes-map-type": "atomic"}


def _as_text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _quantity(pattern: str) -> Any:
    """Kubernetes takes `1` for `"1"`; here it is text in either case."""
    return Annotated[
        str,
        BeforeValidator(_as_text),
        StringConstraints(pattern=pattern, max_length=QUANTITY_LENGTH),
        WithJsonSchema(
            {
                "anyOf": [{"type": "integer"}, {"type": "string"}],
                "x-kubernetes-int-or-string": True,
                "pattern": pattern,
                "maxLength": QUANTITY_LENGTH,
            }
        ),
    ]


Quantity = _quantity(QUANTITY)
# A quantity of bytes.
Size = _quantity(SIZE)

Int = Annotated[int, Field(strict=True)]
Name = Annotated[str, MinLen(1), MaxLen(253), StringConstraints(pattern=f"^{SUBDOMAIN}$")]
LabelKey = Annotated[str, MinLen(1), MaxLen(317), StringConstraints(pattern=f"^({SUBDOMAIN}/)?{LABEL}$")]
LabelValue = Annotated[str, MaxLen(63), StringConstraints(pattern=f"^({LABEL})?$")]
