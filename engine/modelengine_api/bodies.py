"""Reads a request body as a frozen dataclass of the native protocol; whoever has a route that takes one.

The bytes go straight to pydantic's JSON reader and not through FastAPI's body parameter. Only in JSON mode can a
dataclass be strict (FastAPI decodes first, and a decoded list is then no tuple), it reports line and column, bounds
the nesting, refuses half a character, and takes 1-3 microseconds.
"""

from __future__ import annotations

import itertools
import json
from array import array
from collections.abc import Iterator, Sequence
from typing import Any, Generic, TypeVar

from fastapi import Request
from pydantic import TypeAdapter, ValidationError
from pydantic_core import SchemaValidator

from modelengine import errors
from modelengine_api import invalid

Record = TypeVar("Record")

# What goes deeper is made to hurt whoever follows it down.
MAX_NESTING = 64
MAX_FIELDS = 65_536
MAX_CONTAINERS = 65_536
# A body with more values than this is told its first fault only, and its nulls are faults.
MANY_VALUES = 8192
SLICE_BYTES = 256 * 1024
NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
# As signed bytes: one level up, one down.
UP_AND_DOWN = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")


class Reader(Generic[Record]):
    """Turns bodies into records of one class. Make it once, at import: building the validator takes milliseconds."""

    def __init__(self, cls: type[Record]) -> None:
        self._cls = cls
        self._adapter = TypeAdapter(cls)
        # Anew for the classes in it too: what pydantic has made of them before would be taken, and has all faults.
        self._first_fault = SchemaValidator(failing_fast(self._adapter.core_schema), _use_prebuilt=False)

    async def read(self, request: Request) -> Record:
        """The body of the request as a record. Raises InvalidRequest."""
        body = await request.body()
        # A page of a foreign origin may send forms and text without asking; JSON it may not, so JSON must be declared.
        if body and "origin" in request.headers and "json" not in request.headers.get("content-type", ""):
            raise errors.InvalidRequest("a browser must send the body as content-type: application/json")
        return self.parse(body)

    def parse(self, body: bytes) -> Record:
        """The bytes as a record. No bytes are an empty object, and a null where none is allowed counts as left out.

        Raises InvalidRequest naming each bad field.
        """
        if counts_over(body, b"[{", MAX_CONTAINERS):
            raise errors.InvalidRequest(f"body: has more than {MAX_CONTAINERS} lists and objects")
        if is_nested_deeper(body, MAX_NESTING):
            rule = f"is nested more than {MAX_NESTING} deep"
            detail = {"type": "too_deep", "loc": "body", "msg": rule, "input": None}
            raise errors.InvalidRequest(f"body: {rule}", details=[detail])
        if counts_over(body, b":", MAX_FIELDS):
            raise errors.InvalidRequest(f"body: has more than {MAX_FIELDS} fields")
        try:
            record: Record = self._first_fault.validate_json(body or b"{}")
            return record
        except ValidationError as failure:
            # To name a million faults takes a minute, in which nobody else is answered.
            if counts_over(body, b",", MANY_VALUES):
                raise invalid.explain(failure.errors(include_url=False), self._cls) from None
        return self._parse_thoroughly(body)

    def _parse_thoroughly(self, body: bytes) -> Record:
        try:
            return self._adapter.validate_json(body or b"{}")
        except ValidationError as failure:
            found = failure.errors(include_url=False)
        nulls = [item["loc"] for item in found if item["input"] is None and item["loc"]]
        if nulls:
            return self._parse_without(nulls, body)
        raise invalid.explain(found, self._cls)

    def _parse_without(self, nulls: Sequence[tuple[str | int, ...]], body: bytes) -> Record:
        value = json.loads(body)
        for *parents, last in nulls:
            _drop(value, parents, last)
        try:
            return self._adapter.validate_json(json.dumps(value))
        except ValidationError as failure:
            raise invalid.explain(failure.errors(include_url=False), self._cls) from failure


def failing_fast(schema: Any) -> Any:
    """pydantic's inner schema, with lists that end at their first fault."""
    if isinstance(schema, list):
        return [failing_fast(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    changed = {key: failing_fast(value) for key, value in schema.items()}
    return {**changed, "fail_fast": True} if schema.get("type") in ("list", "tuple") else changed


def counts_over(body: bytes, signs: bytes, many: int) -> bool:
    """Whether any of the signs stands outside of texts, all counted, more often than this."""
    if _count(body, signs) <= many:
        return False
    return any(so_far > many for so_far in itertools.accumulate(_count(part, signs) for part in outside_of_texts(body)))


def _count(body: bytes, signs: bytes) -> int:
    return sum(body.count(sign) for sign in signs)


def is_nested_deeper(body: bytes, depth: int) -> bool:
    """Whether brackets stand deeper in each other than this. Most bodies have not even so many."""
    if _count(body, b"[{") <= depth:
        return False
    brackets = b"".join(part.translate(None, NOT_BRACKETS) for part in outside_of_texts(body))
    steps = array("b", brackets.translate(UP_AND_DOWN))
    return max(itertools.accumulate(steps), default=0) > depth


def outside_of_texts(body: bytes) -> Iterator[bytes]:
    """The parts of a body of JSON that are no text, in order: by splitting, ten times as fast as by any expression."""
    # Behind a backslash that is one of a text, a quote is one too.
    body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    is_inside = False
    for at in range(0, len(body), SLICE_BYTES):
        parts = body[at : at + SLICE_BYTES].split(b'"')
        yield b"".join(parts[is_inside::2])
        is_inside ^= len(parts) % 2 == 0


def _drop(value: Any, parents: Sequence[str | int], key: str | int) -> None:
    for part in parents:
        # A field that allows several types: the path goes on with a type's name, and its nulls are no fields.
        if isinstance(part, str) and not isinstance(value, dict):
            return
        value = value[part]
    if isinstance(value, dict):
        value.pop(key, None)
