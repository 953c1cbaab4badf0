"""JSON schemas as applications write them, made up from a seed."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

Maker = Callable[[], dict[str, Any]]

WORDS = ("name", "age", "city", "tags", "kind", "price", "open", "note", "größe", "first name", "id")


def schema(seed: int) -> dict[str, Any]:
    """An object, with all that is in it."""
    return _Writer(Random(seed)).root()


class _Writer:
    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._shared: dict[str, Any] = {}

    def root(self) -> dict[str, Any]:
        if self._rng.random() < 0.4:
            self._shared["shared"] = self._object(1)
        root = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "made up", **self._object(3)}
        return {**root, "$defs": self._shared} if self._shared else root

    def _any(self, depth: int) -> dict[str, Any]:
        makers: list[Callable[[], dict[str, Any]]] = [
            self._integer,
            self._number,
            self._string,
            self._choice,
            self._flag,
            self._nothing,
        ]
        if depth > 0:
            makers += [lambda: self._either(depth), lambda: self._object(depth), lambda: self._array(depth)] * 2
            if self._shared:
                makers.append(lambda: {"$ref": "#/$defs/shared"})
        return self._rng.choice(makers)()

    def _object(self, depth: int) -> dict[str, Any]:
        names = self._rng.sample(WORDS, self._rng.randint(1, 4))
        properties = {name: self._any(depth - 1) for name in names}
        required = [name for name in names if self._rng.random() < 0.8]
        made: dict[str, Any] = {"type": "object", "properties": properties, "required": required}
        if self._rng.random() < 0.85:
            made["additionalProperties"] = False
        return made

    def _array(self, depth: int) -> dict[str, Any]:
        least = self._rng.randint(0, 2)
        if self._rng.random() < 0.2:
            items = [self._any(depth - 1) for _ in range(least + 1)]
            return {"type": "array", "prefixItems": items, "items": False, "minItems": len(items)}
        most = least + self._rng.randint(0, 3)
        return {"type": "array", "items": self._any(depth - 1), "minItems": least, "maxItems": most}

    def _either(self, depth: int) -> dict[str, Any]:
        return {"anyOf": [self._any(depth - 1) for _ in range(self._rng.randint(2, 3))]}

    def _integer(self) -> dict[str, Any]:
        bounds = self._rng.choice([{}, {"minimum": 0}, {"minimum": -5, "maximum": 17}, {"exclusiveMinimum": 100}])
        return {"type": "integer", **bounds, **self._rng.choice([{}, {}, {"multipleOf": 3}])}

    def _number(self) -> dict[str, Any]:
        return {"type": "number", **self._rng.choice([{}, {"minimum": 0, "maximum": 1}, {"maximum": -2.5}])}

    def _string(self) -> dict[str, Any]:
        bounds: list[dict[str, Any]] = [
            {},
            {"maxLength": 12},
            {"minLength": 3, "maxLength": 5},
            {"pattern": "^[A-Z][a-z]{2,6}$"},
            {"pattern": r"^\d{3}-\d{2}$"},
            {"format": "date"},
            {"format": "uuid"},
            {"description": 'with "quotes" in its description'},
        ]
        return {"type": "string", **self._rng.choice(bounds)}

    def _choice(self) -> dict[str, Any]:
        return self._rng.choice(
            [{"enum": ["red", "green", "中"]}, {"const": "fixed"}, {"enum": [1, "one", None, True]}]
        )

    def _flag(self) -> dict[str, Any]:
        return {"type": self._rng.choice(["boolean", ["boolean", "null"]])}

    def _nothing(self) -> dict[str, Any]:
        return {"type": "null"}
