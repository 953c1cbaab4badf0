"""What the records of the custom resource are made of: their base, the types that Kubernetes knows and Python does not,
and the CEL rules that stand beside the field they are for.

Used by spec.py, scheduling.py and status.py; schema.py turns the result into the CRD's schema. A pattern is a CEL rule
here, because the API server answers to OpenAPI's own `pattern` with the bare expression.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any

from annotated_types import MaxLen, MinLen
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from modelengine.errors import InvalidRequest

RULES = "x-kubernetes-validations"
INT_OR_STRING = "x-kubernetes-int-or-string"

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
    return {RULES: list(checks)}


@dataclass(frozen=True, slots=True, eq=False)
class Checked:
    """Annotates a text: the API server checks the rules, Python calls `check`, which raises InvalidRequest."""

    check: Callable[[str], object]
    rules: tuple[dict[str, str], ...]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        plain = handler(core)
        return plain | {RULES: [*plain.get(RULES, ()), *self.rules]}

    def _checked(self, value: str) -> str:
        try:
            self.check(value)
        except InvalidRequest as refused:
            raise ValueError(refused.message) from refused
        return value


def form(pattern: str, words: str) -> Checked:
    """The text has this form. `words` say which one."""

    def check(value: str) -> None:
        if re.fullmatch(pattern, value) is None:
            raise InvalidRequest(words)

    return Checked(check, (rule(f"self.matches(r'^({pattern})$')", words),))


def by_key(*keys: str) -> dict[str, Any]:
    """For `json_schema_extra` of a list: these fields tell its items apart, so that each may have its own owner."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


ATOMIC: dict[str, Any] = {"x-kubernetes-list-type": "atomic"}
# An object that is taken or replaced as a whole.
WHOLE: dict[str, Any] = {"x-kubernetes-map-type": "atomic"}

_LABEL_KEY = f"({SUBDOMAIN}/)?[A-Za-z0-9]([A-Za-z0-9_.-]{{0,61}}[A-Za-z0-9])?"
_LABEL_KEY_WORDS = (
    "must be up to 63 letters, digits, '-', '_' and '.', after a domain and '/' where it has one, as in example.com/gpu"
)
# Of a map's keys a schema can say nothing else.
KEYED = rules(rule(f"self.all(key, key.size() <= 317 && key.matches(r'^{_LABEL_KEY}$'))", f"a key {_LABEL_KEY_WORDS}"))


def _as_text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _int_or_string(expression: str, words: str) -> Checked:
    """Kubernetes takes `1` for `"1"`; Python sees text in either case."""
    check = form(expression, words)
    return Checked(check.check, (rule(f"type(self) == int ? self >= 0 : {check.rules[0]['rule']}", words),))


Quantity = Annotated[
    str,
    MaxLen(24),
    _int_or_string(
        r"[0-9]+(\.[0-9]+)?([numkMGTPE]|[KMGTPE]i|e[0-9]{1,2})?", "must be a quantity, such as 2, 500m or 8Gi"
    ),
    BeforeValidator(_as_text),
    Field(json_schema_extra={INT_OR_STRING: True}),
]
_UNITS = "KMGTP"
_SIZE = r"[0-9]+(\.[0-9]+)?(k|[MGTP]|[KMGTP]i)?"
# A quantity of bytes.
Size = Annotated[str, MinLen(1), MaxLen(24), form(_SIZE, "must be a number of bytes, such as 512Mi or 20Gi")]


def size_rule(*texts: str, holds: str) -> str:
    """A CEL expression over sizes. One that is no size is refused by another rule, and must not be read here: the API
    server works for minutes at `quantity('2e60000000')`."""
    return " || ".join([*(f"!{text}.matches(r'^({_SIZE})$')" for text in texts), holds])


def in_bytes(size: str) -> Decimal:
    """What a Size comes to."""
    number = size.rstrip(f"k{_UNITS}i")
    unit = size[len(number) :].upper()
    power = _UNITS.index(unit[0]) + 1 if unit else 0
    return Decimal(number) * Decimal(1024 if unit.endswith("I") else 1000) ** power


Int = Annotated[int, Field(strict=True)]
Name = Annotated[
    str,
    MinLen(1),
    MaxLen(253),
    form(SUBDOMAIN, "must be the name of an object: a-z, 0-9, '-' and '.', with a letter or digit at both ends"),
]
LabelKey = Annotated[str, MinLen(1), MaxLen(317), form(_LABEL_KEY, _LABEL_KEY_WORDS)]
LabelValue = Annotated[
    str,
    MaxLen(63),
    form(f"({LABEL})?", "must be letters, digits, '-', '_' and '.', with a letter or digit at both ends, or empty"),
]
