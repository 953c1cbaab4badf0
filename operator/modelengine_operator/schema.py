"""From typed records to a structural OpenAPI v3 schema, as a CustomResourceDefinition must have it. Pure.

Called by crd.py. Pydantic's own schema is JSON Schema: it refers to shared parts, and says of an optional field that it
may be null. Kubernetes wants everything in place, and leaves absent what is null.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelengine_operator.fields import INT_OR_STRING, RULES, Record

# Titles repeat names, and unknown fields are refused or dropped anyway. Of a map, only its values have a schema.
_DROPPED = ("title", "additionalProperties", "propertyNames", "default", "$defs")
_ORDER = ("description", "type", INT_OR_STRING, "enum", "format", "default")


def structural(record: type[Record]) -> dict[str, Any]:
    """The schema of the record, with everything that it refers to in place."""
    whole = record.model_json_schema(by_alias=True)
    return _plain(whole, whole.get("$defs", {}))


def _plain(node: Mapping[str, Any], parts: Mapping[str, Any]) -> dict[str, Any]:
    node = _unfolded(node, parts)
    plain = {key: value for key, value in node.items() if key not in _DROPPED}
    if "properties" in node:
        plain["properties"] = {name: _plain(inner, parts) for name, inner in node["properties"].items()}
    if isinstance(node.get("additionalProperties"), Mapping):
        plain["additionalProperties"] = _plain(node["additionalProperties"], parts)
    if "items" in node:
        plain["items"] = _plain(node["items"], parts)
    if INT_OR_STRING in node:
        del plain["type"]
    if "const" in node:
        plain["enum"] = [plain.pop("const")]
    if plain.get("type") == "integer":
        plain["format"] = "int64"
    plain |= _default(node, plain)
    return {key: plain[key] for key in sorted(plain, key=_position)}


def _unfolded(node: Mapping[str, Any], parts: Mapping[str, Any]) -> dict[str, Any]:
    """The node with what it refers to, or with the one thing that it may be beside null; its own words win."""
    if "$ref" in node:
        return _joined(_unfolded(parts[node["$ref"].rsplit("/", 1)[1]], parts), _own(node, "$ref"))
    if "anyOf" in node:
        [only] = [choice for choice in node["anyOf"] if choice.get("type") != "null"]
        return _joined(_unfolded(only, parts), _own(node, "anyOf"))
    return dict(node)


def _joined(inner: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    checks = [*inner.get(RULES, ()), *own.get(RULES, ())]
    return {**inner, **own, **({RULES: checks} if checks else {})}


def _own(node: Mapping[str, Any], reference: str) -> dict[str, Any]:
    return {key: value for key, value in node.items() if key != reference}


def _default(node: Mapping[str, Any], plain: Mapping[str, Any]) -> dict[str, Any]:
    """An object's default is empty where its fields have defaults of their own, which Kubernetes then fills in."""
    if plain.get("type") == "object":
        inner = plain.get("properties", {}).values()
        return {"default": {}} if node.get("default") is not None and any("default" in field for field in inner) else {}
    return {"default": node["default"]} if node.get("default") not in (None, []) else {}


def _position(key: str) -> tuple[int, str]:
    return (_ORDER.index(key), key) if key in _ORDER else (len(_ORDER), key)
