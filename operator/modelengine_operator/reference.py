"""The reference page of the custom resource, made from its schema.

`python -m modelengine_operator.reference` writes it anew, for readers of docs/; a test compares the page with what is
made here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from modelengine import kinds
from modelengine_operator import crd
from modelengine_operator.fields import INT_OR_STRING, RULES

FILE = Path("docs/reference/modelengine.md")
# Known to whoever has written a pod; their parts would be most of the page.
AS_IN_A_POD = ("spec.affinity.nodeAffinity", "spec.affinity.podAffinity", "spec.affinity.podAntiAffinity")

Schema = Mapping[str, Any]


def text() -> str:
    """The whole page."""
    schema = crd.schema()
    spec, status = schema["properties"]["spec"], schema["properties"]["status"]
    return f"""# ModelEngine

<!-- Made by `python -m modelengine_operator.reference` from operator/modelengine_operator/spec.py: change that. -->

`{kinds.API_VERSION}`, short name `{kinds.SHORT_NAME}`. {schema["description"]} Examples are in
[examples/](../../examples). `kubectl explain {kinds.SHORT_NAME}.spec` says the same as this page.

Its {schema[RULES][0]["message"]}.

## spec

| Field | Type | Default | Allowed | Meaning |
|---|---|---|---|---|
{_table("spec", spec)}

Rules over several fields, which the API server checks when the object is written:

{_rules(spec)}

## status

Written by the operator. `kubectl wait --for=condition=Ready {kinds.SHORT_NAME}/NAME` waits until the model answers.

| Field | Type | Meaning |
|---|---|---|
{_status_table("status", status)}
"""


def fields(path: str, schema: Schema) -> Iterator[tuple[str, Schema, bool]]:
    """Every field below the path, as (path, schema, whether it is required), in the order of the model."""
    for name, field in schema.get("properties", {}).items():
        inner = f"{path}.{name}"
        yield inner, field, name in schema.get("required", ())
        if inner not in AS_IN_A_POD:
            yield from fields(f"{inner}[]" if "items" in field else inner, field.get("items", field))


def _table(path: str, schema: Schema) -> str:
    rows = (
        (
            f"`{where}`",
            _kind(field),
            "required" if is_required else _default(field),
            _allowed(field),
            field["description"],
        )
        for where, field, is_required in fields(path, schema)
    )
    return "\n".join(_row(*cells) for cells in rows)


def _status_table(path: str, schema: Schema) -> str:
    return "\n".join(_row(f"`{where}`", _kind(field), field["description"]) for where, field, _ in fields(path, schema))


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _kind(field: Schema) -> str:
    if INT_OR_STRING in field:
        return "quantity"
    if "items" in field:
        return f"list of {_kind(field['items'])}s"
    if "additionalProperties" in field:
        return f"map to {_kind(field['additionalProperties']).replace('quantity', 'quantitie')}s"
    return str({"date-time": "time"}.get(field.get("format", ""), field["type"]))


def _default(field: Schema) -> str:
    return f"`{field['default']}`" if field.get("default") not in (None, {}, "") else ""


def _allowed(field: Schema) -> str:
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "minimum" in field:
        return f"{field['minimum']} to {field['maximum']}"
    bounds = {"maxLength": "characters", "maxItems": "items", "maxProperties": "entries"}
    words = [check["message"] for check in field.get(RULES, ()) if field.get("type") == "string"][:1]
    return "; ".join(words + [f"at most {field[key]} {noun}" for key, noun in bounds.items() if key in field])


def _rules(schema: Schema) -> str:
    """Of objects, and of maps; a text's own rule stands in its row."""
    objects = [("spec", schema)] + [(where, field.get("items", field)) for where, field, _ in fields("spec", schema)]
    return "\n".join(
        f"- `{where}{check.get('fieldPath', '')}`: {check['message']}"
        for where, field in objects
        if field["type"] == "object"
        for check in field.get(RULES, ())
    )


def main() -> None:
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(text())
    print(f"wrote {FILE}")


if __name__ == "__main__":
    main()
