"""From pydantic's list of faults to one InvalidRequest: a sentence that names the field and what is allowed.

Pure. `bodies.py` uses it for every body that is read, `doors.py` for what FastAPI itself refuses.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
import reprlib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelengine import errors

MAX_FAULTS = 20
MAX_SHOWN = 100

# What each of pydantic's fault types means to whoever wrote the request. `{...}` is filled from the fault's context.
RULES: Mapping[str, str] = {
    "less_than_equal": "must be at most {le}",
    "less_than": "must be less than {lt}",
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be more than {gt}",
    "string_type": "must be a string",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "dataclass_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "string_too_short": "must have at least {min_length} character(s)",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must have at least {min_length} item(s)",
    "too_long": "must have at most {max_length} items",
    "missing": "is required",
}
# What pydantic adds to the path of an object's key that is wrong; the key itself stands before it.
KEY_TAG = "[key]"
UNKNOWN_TYPES = ("unexpected_keyword_argument", "extra_forbidden")
# Where a field allows several types, pydantic puts the name of the type it tried into the path.
UNION_TAG = re.compile(r"^(constrained-)?(str|int|float|bool)$|^(tuple|list|dict|function-\w+)\[")

Loc = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    kind: str
    loc: Loc
    rule: str
    given: Any
    # The path of the field that allows several types, where this is the complaint of only one of them.
    union: Loc | None = None

    @property
    def sentence(self) -> str:
        shows_given = self.kind not in ("missing", "json_invalid", *UNKNOWN_TYPES)
        return f"{path(self.loc)}: {self.rule}" + (f", got {shown(self.given)}" if shows_given else "")


def explain(found: Sequence[Mapping[str, Any]], root: Any = None) -> errors.InvalidRequest:
    """The error for pydantic's faults; `root` is the class that was asked for, from which known fields are named."""
    faults = _fold_unions(_without_echoes([_fault(item, root) for item in found[:MAX_FAULTS]]))
    details = [
        {"type": fault.kind, "loc": path(fault.loc), "msg": fault.rule, "input": _plain(fault.given)}
        for fault in faults
    ]
    return errors.InvalidRequest(faults[0].sentence, details=details)


def refused(where: str, rule: str) -> errors.InvalidRequest:
    """The error for a field whose value is wrong for a reason that its type can't say."""
    return errors.InvalidRequest(f"{where}: {rule}", details=[{"type": "value_error", "loc": where, "msg": rule}])


def path(loc: Loc) -> str:
    """`messages[0].role`; `body` for the whole."""
    parts = [f"[{part}]" if isinstance(part, int) else f".{part[:MAX_SHOWN]}" for part in loc]
    return "".join(parts).removeprefix(".") or "body"


def unknown_field(name: str, known: Iterable[str]) -> str:
    """`unknown; did you mean 'temperature'? known are ...`."""
    names = sorted(known)
    near = difflib.get_close_matches(name[:MAX_SHOWN], names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"unknown; {hint}known are {', '.join(names)}"


def _fault(item: Mapping[str, Any], root: Any) -> Fault:
    kind, raw = str(item["type"]), tuple(item["loc"])
    tags = [i for i, part in enumerate(raw) if isinstance(part, str) and UNION_TAG.match(part)]
    loc = tuple(part for i, part in enumerate(raw) if i not in tags and part != KEY_TAG)
    if kind == "json_invalid":
        return Fault(kind, (), f"is not JSON: {item['ctx']['error']}", item["input"])
    if kind in UNKNOWN_TYPES:
        known = _fields_at(root, loc[:-1])
        return Fault(kind, loc, unknown_field(str(loc[-1]), known) if known else "unknown", item["input"])
    context = {key: f"{value:g}" if isinstance(value, float) else value for key, value in item.get("ctx", {}).items()}
    rule = RULES[kind].format(**context) if kind in RULES else str(item["msg"])
    given = item["input"]
    if kind in ("too_short", "too_long"):
        given = context.get("actual_length") or len(given)
    return Fault(kind, loc, rule, given, raw[: tags[0]] if tags else None)


def _without_echoes(faults: Sequence[Fault]) -> list[Fault]:
    """A list whose items are wrong is also reported as too short, since no good item is left; the items say it all."""
    return [
        fault
        for fault in faults
        if fault.kind != "too_short"
        or not any(len(other.loc) > len(fault.loc) and other.loc[: len(fault.loc)] == fault.loc for other in faults)
    ]


def _fold_unions(faults: Sequence[Fault]) -> list[Fault]:
    """Each type that a field allows has complained on its own: the one that came furthest was meant."""
    folded: list[Fault] = []
    seen: set[Loc] = set()
    for fault in faults:
        if fault.union is None:
            folded.append(fault)
        elif fault.union not in seen:
            seen.add(fault.union)
            folded += _meant([other for other in faults if other.union == fault.union])
    return folded


def _meant(complaints: Sequence[Fault]) -> list[Fault]:
    deepest = max(len(fault.loc) for fault in complaints)
    furthest = [fault for fault in complaints if len(fault.loc) == deepest]
    values = [fault for fault in furthest if not fault.kind.endswith("_type")]
    if values or len(furthest) == 1:
        return values or furthest
    rule = "must be " + " or ".join(fault.rule.removeprefix("must be ") for fault in furthest)
    return [dataclasses.replace(furthest[0], rule=rule)]


def _fields_at(root: Any, loc: Loc) -> list[str]:
    """The names of the fields of the record at this path of the class `root`, empty where there is none."""
    here = [root]
    for part in loc:
        here = [inner for outer in here for kind in _alternatives(outer) for inner in _step(kind, part)]
    records = [kind for outer in here for kind in _alternatives(outer) if dataclasses.is_dataclass(kind)]
    return [field.name for kind in records for field in dataclasses.fields(kind)]


def _alternatives(kind: Any) -> list[Any]:
    origin = typing.get_origin(kind)
    if origin is typing.Annotated:
        return _alternatives(typing.get_args(kind)[0])
    if origin in (typing.Union, types.UnionType):
        return [inner for arg in typing.get_args(kind) for inner in _alternatives(arg)]
    return [kind]


def _step(kind: Any, part: str | int) -> list[Any]:
    if isinstance(part, int):
        return list(typing.get_args(kind)[:1])
    if not dataclasses.is_dataclass(kind):
        return []
    hints = typing.get_type_hints(kind, include_extras=True)
    return [hints[part]] if part in hints else []


def shown(value: Any) -> str:
    """The input as a sentence may quote it."""
    plain = _plain(value)
    return json.dumps(plain, ensure_ascii=False) if isinstance(value, str | bytes | bool | None) else str(plain)


def _plain(value: Any) -> Any:
    """The input as it may stand in an answer: short, and nothing that JSON cannot say."""
    if isinstance(value, bytes):
        value = value[: MAX_SHOWN + 1].decode(errors="replace")
    if isinstance(value, str):
        return value if len(value) <= MAX_SHOWN else value[:MAX_SHOWN] + "..."
    if value is None or isinstance(value, bool):
        return value
    # A whole number may be too large for a float: it is not asked whether it is finite.
    if isinstance(value, int | float) and abs(value) < 2**63:
        return value
    if isinstance(value, float):
        return str(value)
    return reprlib.repr(value)[:MAX_SHOWN]
