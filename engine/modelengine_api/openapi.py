"""What `/openapi.json` says of routes that read their bodies themselves, from the same records that they read with.

`operation` makes the `openapi_extra` of a route, for every API that is mounted; `install` makes the description of an
app whole: the records that several routes share stand once in it, and what is no route of FastAPI's is in it too.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from pydantic import TypeAdapter
from starlette.routing import Match, Route
from starlette.types import Scope

from modelengine import errors, wire

Schema = dict[str, Any]
Refusals = Sequence[type[errors.ModelEngineError]]

JSON = "application/json"
COMPONENTS = "#/components/schemas/"
# What any request may hear, wherever it goes: at the door, from a limit, or from a server that stops.
AT_THE_DOOR: Refusals = (
    errors.InvalidRequest,
    errors.Unauthorized,
    errors.Forbidden,
    errors.TooSlow,
    errors.TooLarge,
    errors.UnsupportedMedia,
    errors.RateLimited,
    errors.HeadersTooLarge,
    errors.Unavailable,
)
# What a request to a model may hear besides.
OF_A_MODEL: Refusals = (
    errors.NotFound,
    errors.Busy,
    errors.RequestFailed,
    errors.StreamBroken,
    errors.ConnectionFailed,
    errors.WaitTimeout,
)


@dataclass(frozen=True, slots=True)
class Style:
    """How an API looks: what is around an answer, how an error is worded, and the type of a stream."""

    answer: Callable[[Schema], Schema]
    error: Schema
    stream: str


def _in_envelope(schema: Schema) -> Schema:
    return {
        "type": "object",
        "required": ["state", "msg"],
        "properties": {"state": {"const": "ok"}, "msg": schema},
    }


NATIVE = Style(
    answer=_in_envelope,
    error={
        "type": "object",
        "required": ["state", "msg", "code"],
        "properties": {
            "state": {"const": "error"},
            "msg": {"type": "string"},
            "code": {"enum": sorted(errors.BY_CODE)},
            "details": {"type": "array", "items": {"type": "object"}},
            "retry_after_s": {"type": "number"},
        },
    },
    stream=wire.NDJSON,
)

OPENAI = Style(
    answer=lambda schema: schema,
    error={
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["message", "type", "param", "code"],
                "properties": {
                    "message": {"type": "string"},
                    "type": {"type": "string"},
                    "param": {"type": ["string", "null"]},
                    "code": {"type": "string"},
                },
            }
        },
    },
    stream="text/event-stream",
)


def operation(
    *,
    body: Any = None,
    answer: Any = None,
    part: Any = None,
    refusals: Refusals = (),
    style: Style = NATIVE,
    body_required: bool = True,
) -> dict[str, Any]:
    """The `openapi_extra` of a route.

    `body`, `answer` and `part` are types that pydantic knows, None where there is none; `part` is one part of a
    stream. `refusals` are the errors that it may answer besides those at the door.
    """
    content = {}
    if answer is not None:
        content[JSON] = {"schema": style.answer(_schema(answer))}
    if part is not None:
        content[style.stream] = {"schema": style.answer(_schema(part))}
    found: dict[str, Any] = {"responses": {"200": {"description": "The answer", "content": content}}}
    found["responses"] |= _refused((*AT_THE_DOOR, *refusals), style)
    if body is not None:
        found["requestBody"] = {"required": body_required, "content": {JSON: {"schema": _schema(body)}}}
    return found


class KnownRoute(Route):
    """A route that is no part of the framework; the access line has its path, as of one that is."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child_scope = super().matches(scope)
        return match, {**child_scope, "route": self} if match is not Match.NONE else child_scope


class PlainRoute(KnownRoute):
    """A route that is no part of the framework, and described as one that is."""

    def __init__(self, path: str, endpoint: Any, *, methods: list[str], operation: Mapping[str, Any]) -> None:
        super().__init__(path, endpoint, methods=methods)
        self.operation = operation


def install(app: FastAPI) -> None:
    """The app's description is what its routes say, made once when it is first asked for."""
    of_routes = app.openapi

    def described() -> dict[str, Any]:
        document = of_routes()
        if "x-whole" not in document.get("info", {}):
            for route in app.routes:
                if isinstance(route, PlainRoute):
                    _add(document, route)
            share(document)
            document["info"]["x-whole"] = True
        return document

    app.openapi = described  # type: ignore[method-assign]  # FastAPI's own way to extend it


def share(document: dict[str, Any]) -> None:
    """Moves each schema's own definitions to where all may refer to them; a second of one name gets a number."""
    shared = document.setdefault("components", {}).setdefault("schemas", {})
    for schema in list(_objects(document.get("paths", {}))):
        definitions = schema.pop("$defs", {})
        names = {name: _free(name, definition, shared) for name, definition in definitions.items()}
        for node in (*_objects(schema), *_objects(definitions)):
            if isinstance(ref := node.get("$ref"), str) and (name := ref.removeprefix(COMPONENTS)) in names:
                node["$ref"] = COMPONENTS + names[name]
        shared.update({names[name]: definition for name, definition in definitions.items()})


def _free(name: str, definition: Schema, shared: Mapping[str, Schema]) -> str:
    number, candidate = 1, name
    while shared.get(candidate, definition) != definition:
        number += 1
        candidate = f"{name}{number}"
    return candidate


def _objects(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from _objects(value)
    elif isinstance(node, list):
        for value in node:
            yield from _objects(value)


def _add(document: dict[str, Any], route: PlainRoute) -> None:
    for method in sorted((route.methods or set()) - {"HEAD"}):
        at = document["paths"].setdefault(route.path, {})
        at[method.lower()] = {"operationId": f"{method} {route.path}".lower(), **route.operation}


def _schema(cls: Any) -> Schema:
    """A copy of its own for each place: `share` changes them."""
    return copy.deepcopy(_made_schema(cls))


@functools.cache
def _made_schema(cls: Any) -> Schema:
    # Most of what an app's making takes, were it done for each route.
    return TypeAdapter(cls).json_schema(ref_template=COMPONENTS + "{model}")


def _refused(refusals: Refusals, style: Style) -> dict[str, Any]:
    by_status: dict[int, list[str]] = {}
    for refusal in refusals:
        by_status.setdefault(refusal.status, []).append(refusal.code)
    return {
        str(status): {"description": ", ".join(codes), "content": {JSON: {"schema": style.error}}}
        for status, codes in sorted(by_status.items())
    }
