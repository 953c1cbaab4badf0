"""The CRD and the reference page are what the typed spec makes of them, and the schema is one that Kubernetes takes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from annotated_types import MaxLen
from pydantic import Field

from modelengine import kinds
from modelengine_operator import crd, reference
from modelengine_operator.fields import Quantity, Record, rule, rules
from modelengine_operator.schema import structural
from modelengine_operator.spec import Spec
from modelengine_operator.status import Status

ROOT = Path(__file__).parents[2]
# What a structural schema may have; each of these was tried on the API server in tests/cluster/test_crd.py.
KNOWN = {
    "additionalProperties",
    "default",
    "description",
    "enum",
    "format",
    "items",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minimum",
    "properties",
    "required",
    "type",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
    "x-kubernetes-validations",
}


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every node of the schema with its path."""
    yield path, schema
    for name, field in schema.get("properties", {}).items():
        yield from nodes(field, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from nodes(schema[key], f"{path}[]")


NODES = dict(nodes(crd.schema()))


def test_the_crd_is_the_one_that_the_spec_makes() -> None:
    assert (ROOT / crd.FILE).read_text() == crd.text(), "run: python -m modelengine_operator.crd"


def test_the_reference_page_is_the_one_that_the_spec_makes() -> None:
    assert (ROOT / reference.FILE).read_text() == reference.text(), "run: python -m modelengine_operator.reference"


def test_writing_anew_writes_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    crd.main()
    reference.main()
    assert (tmp_path / crd.FILE).read_text() == crd.text()
    assert (tmp_path / reference.FILE).read_text() == reference.text()


def test_the_file_needs_no_anchors_to_be_read() -> None:
    assert yaml.safe_load(crd.text()) == crd.definition()
    assert not re.search(r"[&*]id\d", crd.text())


def test_its_names_are_those_that_the_other_parts_use() -> None:
    definition = crd.definition()
    names = definition["spec"]["names"]
    assert definition["metadata"]["name"] == f"{kinds.PLURAL}.{kinds.GROUP}"
    assert (names["kind"], names["plural"], names["shortNames"]) == (kinds.KIND, kinds.PLURAL, [kinds.SHORT_NAME])
    assert [version["name"] for version in definition["spec"]["versions"]] == [kinds.VERSION]


def test_every_part_of_the_schema_is_structural() -> None:
    unknown = {path: set(node) - KNOWN for path, node in NODES.items() if set(node) - KNOWN}
    assert unknown == {}
    untyped = [path for path, node in NODES.items() if ("type" in node) == ("x-kubernetes-int-or-string" in node)]
    assert untyped == []
    two_kinds = [path for path, node in NODES.items() if {"properties", "additionalProperties"} <= set(node)]
    assert two_kinds == []
    assert [path for path, node in NODES.items() if (node.get("type") == "array") != ("items" in node)] == []


def test_every_field_of_the_schema_is_described() -> None:
    fields = [path for path in NODES if path not in ("", ".metadata") and not path.endswith("[]")]
    assert len(fields) > 100
    assert [path for path in fields if not NODES[path].get("description")] == []


def test_every_part_of_the_schema_has_bounds() -> None:
    ours = {path: node for path, node in NODES.items() if path.startswith((".spec", ".status"))}
    assert [path for path, node in ours.items() if not _is_bounded(node)] == []


def _is_bounded(node: dict[str, Any]) -> bool:
    if node.get("format") == "date-time" or "enum" in node:
        return True
    if "type" not in node:
        return "maxLength" in node
    bounds = {"array": "maxItems", "string": "maxLength", "integer": "maximum"}
    bound = "maxProperties" if "additionalProperties" in node else bounds.get(node["type"], "type")
    return bound in node


def test_every_rule_says_what_to_do() -> None:
    messages = [check["message"] for node in NODES.values() for check in node.get("x-kubernetes-validations", ())]
    assert len(messages) > 30
    assert [message for message in messages if not 10 < len(message) < 200 or "\n" in message] == []


def test_the_page_has_every_field_of_the_model_with_its_default_and_words() -> None:
    page = (ROOT / reference.FILE).read_text()
    cells = {row.split("|")[1].strip().strip("`"): row for row in page.splitlines() if row.startswith("| `")}
    for record, prefix in ((Spec, "spec"), (Status, "status")):
        for field in record.model_fields.values():
            row = cells[f"{prefix}.{field.alias}"]
            assert str(field.description) in row
            if isinstance(field.default, int | str):
                assert f"| `{field.default}` |" in row
    assert "`spec.affinity.nodeAffinity`" in page
    assert "requiredDuringScheduling" not in page


class Part(Record):
    size: Annotated[str, MaxLen(3)] = Field(default="1Gi", description="A size.")


class Whole(Record):
    """A whole."""

    part: Part = Field(default=Part(), description="The part.")
    maybe: Part | None = Field(default=None, description="Perhaps a part.")
    some: Annotated[tuple[Part, ...], MaxLen(2)] = Field(default=(), description="Parts.")
    amount: Quantity | None = Field(default=None, description="An amount.")


def test_shared_parts_stand_in_place_and_nothing_may_be_null() -> None:
    fields = structural(Whole)["properties"]
    size = {"description": "A size.", "type": "string", "default": "1Gi", "maxLength": 3}
    assert fields["maybe"] == {
        "description": "Perhaps a part.",
        "type": "object",
        "properties": {"size": size},
    }
    assert fields["some"]["items"]["properties"] == {"size": size}


def test_an_object_s_default_is_left_to_its_fields_and_an_empty_list_s_is_none() -> None:
    fields = structural(Whole)["properties"]
    assert fields["part"]["default"] == {}
    assert all("default" not in fields[name] for name in ("maybe", "some", "amount"))


def test_the_rules_of_a_field_stand_beside_those_of_its_type() -> None:
    class Twice(Record):
        amount: Quantity | None = Field(default=None, json_schema_extra=rules(rule("true", "of the field")))

    messages = [check["message"] for check in structural(Twice)["properties"]["amount"]["x-kubernetes-validations"]]
    assert messages == ["must be a quantity, such as 2, 500m or 8Gi", "of the field"]
