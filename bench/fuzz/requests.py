"""Requests from the API's own description, most of them with something wrong in them. Pure, and the same for a seed.

A value is first made as the schema wants it; then something in it is exchanged for what the schema does not allow, or
the text that it is sent as is damaged.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Schema = Mapping[str, Any]

REFERENCE = "#/components/schemas/"
DEEPEST = 6
# What programs stumble over.
NASTY: Sequence[Any] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63), 10**30, 10**400, 0.1, -0.0, 1e308, float("nan"), float("inf"),
    "", " ", "\x00", "\r\n\r\n", "\x1b[31m", "../../etc/passwd", "a" * 300, "a" * 70_000, "\ud800", "🙂" * 50, "null",
    "{{7*7}}", "demo\n", "DEMO", "http://169.254.169.254/", [], {}, [[]], [None], {"": None}, {"__class__": "x"},
    [{"a": [1, {"b": []}]}] * 20, "(a+)+$", {"type": "object", "$ref": "#"},
)  # fmt: skip
KNOWN = {"model": "demo", "name": "demo", "protocol": "chat"}


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    body: bytes

    def rendered(self) -> bytes:
        head = f"{self.method} {self.path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        return f"{head}content-length: {len(self.body)}\r\nconnection: close\r\n\r\n".encode() + self.body


def endless(document: Schema, rng: random.Random) -> Iterator[Request]:
    """Requests for the operations of the description, each as often as the others."""
    shared = document["components"]["schemas"]
    operations = [
        (method.upper(), path, operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
    ]
    while True:
        method, path, operation = rng.choice(operations)
        yield Request(method, _path(path, rng), _body(operation, shared, rng))


def _path(path: str, rng: random.Random) -> str:
    while "{" in path:
        before, _, rest = path.partition("{")
        path = (
            before + rng.choice(["demo", "nobody", "%00", "..%2f..", "a/b", "%ff", "x" * 300]) + rest.partition("}")[2]
        )
    return path + rng.choice([""] * 20 + ["?x=1", "?%00=%ff", "/", "//"])


def _body(operation: Schema, shared: Schema, rng: random.Random) -> bytes:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if content is None:
        return rng.choice([b"", b"{}", b"null", b"\xff"])
    value = example(content["schema"], shared, rng)
    for _ in range(rng.choice([0, 1, 1, 1, 2, 4])):
        value = damaged(value, rng)
    text = json.dumps(value).encode()
    return text if rng.random() < 0.8 else broken_text(text, rng)


def example(schema: Schema, shared: Schema, rng: random.Random, depth: int = 0, key: str = "") -> Any:
    """A value that the schema allows, as far as it says so in the words that ours are written in."""
    if "$ref" in schema:
        return example(shared[schema["$ref"].removeprefix(REFERENCE)], shared, rng, depth, key)
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return example(rng.choice(schema[several]), shared, rng, depth, key)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return rng.choice(schema["enum"])
    match schema.get("type"):
        case "object":
            return _object(schema, shared, rng, depth)
        case "array":
            size = rng.randint(schema.get("minItems", 0), min(schema.get("maxItems", 3), schema.get("minItems", 0) + 2))
            return [example(schema.get("items", {}), shared, rng, depth + 1) for _ in range(size)]
        case "string":
            return KNOWN.get(key) or rng.choice(["hi", "Say something.", "x" * schema.get("minLength", 1)])
        case "integer":
            low = schema.get("minimum", schema.get("exclusiveMinimum", 0))
            return rng.choice([low, low + 1, min(schema.get("maximum", 100), 100)])
        case "number":
            return rng.choice([schema.get("minimum", 0.5), schema.get("maximum", 1), 0.5])
        case "boolean":
            return rng.random() < 0.5
        case "null":
            return None
    return rng.choice([1, "x", {"a": 1}, [1], None])


def _object(schema: Schema, shared: Schema, rng: random.Random, depth: int) -> dict[str, Any]:
    required = schema.get("required", ())
    properties = schema.get("properties", {})
    chance = 0.3 if depth < DEEPEST else 0.0
    chosen = [name for name in properties if name in required or rng.random() < chance]
    return {name: example(properties[name], shared, rng, depth + 1, name) for name in chosen}


def damaged(value: Any, rng: random.Random) -> Any:
    """The value with one thing in it exchanged, dropped, doubled or added."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        name = rng.choice(list(value))
        match rng.randrange(10):
            case 0:
                return {other: value[other] for other in value if other != name}
            case 1:
                return {**value, rng.choice(["n", "", "a" * 500, "mesages", "\x00"]): rng.choice(NASTY)}
            case 2:
                return {**value, name: rng.choice(NASTY)}
        return {**value, name: damaged(value[name], rng)}
    if isinstance(value, list) and value and rng.random() < 0.85:
        at = rng.randrange(len(value))
        if rng.random() < 0.1:
            return value * rng.choice([2, 50, 3000])
        return [*value[:at], damaged(value[at], rng), *value[at + 1 :]]
    return rng.choice(NASTY)


def broken_text(text: bytes, rng: random.Random) -> bytes:
    """The bytes with some of them cut, changed, doubled or nested."""
    at = rng.randrange(len(text) + 1)
    match rng.randrange(6):
        case 0:
            return text[:at]
        case 1:
            return text[:at] + bytes([rng.randrange(256)]) + text[at + 1 :]
        case 2:
            return text[:at] + text[at:] * 2
        case 3:
            return b"[" * rng.choice([10, 100, 100_000]) + text
        case 4:
            return b"\xef\xbb\xbf" + text
    return text[:at] + rng.choice([b"NaN", b"\\ud800", b"\x00", b"1e999", b"//", b"\xc3"]) + text[at:]
