"""`-o temperature=0.5` and `/set temperature 0.5`: text to the typed options of the protocol."""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from modelengine import errors
from modelengine.chats import ChatOptions

# "a whole number" and "a number" are what a person can act on; bounds are the server's to tell.
KINDS: Mapping[Any, str] = {int: "a whole number", float: "a number", bool: "true or false", dict: "JSON of an object"}


def parse(assignments: Iterable[str]) -> ChatOptions:
    """Options from `name=value` texts; a repeated `stop` adds up. Raises InvalidRequest naming what is wrong."""
    chosen = ChatOptions()
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise errors.InvalidRequest(f"option {assignment!r}: expected name=value")
        chosen = with_option(chosen, name.strip(), value, adds_up=True)
    return chosen


def with_option(options: ChatOptions, name: str, value: str, *, adds_up: bool = False) -> ChatOptions:
    """The options with one of them set from text."""
    known = sorted(field.name for field in dataclasses.fields(ChatOptions))
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise errors.InvalidRequest(f"no option {name!r}{hint} (known: {', '.join(known)})")
    typed: Any = _typed(name, value)
    if name == "stop" and adds_up:
        typed = (*options.stop_strings, typed)
    return dataclasses.replace(options, **{name: typed})


def _typed(name: str, value: str) -> Any:
    kind = _kind(name)
    try:
        return READERS[kind](value)
    except (ValueError, KeyError):
        raise errors.InvalidRequest(f"option {name}: expected {KINDS[kind]}, got {value!r}") from None


def _object(value: str) -> dict[str, Any]:
    read = json.loads(value)
    if not isinstance(read, dict):
        raise ValueError("no object")
    return read


def _flag(value: str) -> bool:
    return {"true": True, "false": False}[value.lower()]


READERS: Mapping[Any, Callable[[str], Any]] = {int: int, float: float, bool: _flag, dict: _object, str: str}


def _kind(name: str) -> Any:
    """The plain type under the field's bounds: `Annotated[int, Ge(1)] | None` is int."""
    hint = get_type_hints(ChatOptions, include_extras=True)[name]
    given = next(each for each in get_args(hint) if each is not type(None))
    kind = get_args(given)[0] if get_origin(given) is Annotated else given
    kind = get_origin(kind) or kind
    return dict if dataclasses.is_dataclass(kind) else kind
