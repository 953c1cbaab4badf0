"""What a ModelEngine says, as the operator reads it."""

from __future__ import annotations

import copy
import re
import typing
from datetime import UTC, datetime
from typing import Any

import pytest
from annotated_types import Ge, Le, MaxLen
from pydantic import ValidationError
from pydantic.fields import FieldInfo

import crd_values
from crd_values import Bad, Row
from modelengine.errors import InvalidRequest
from modelengine_operator import runtime, source, spec
from modelengine_operator.fields import Record, in_bytes
from modelengine_operator.runtime import Runtime
from modelengine_operator.source import Source
from modelengine_operator.spec import Engine, Spec
from modelengine_operator.status import Status
from modelengine_runtime import settings as runtime_settings

METADATA = {
    "namespace": "team",
    "name": "qwen",
    "uid": "u-1",
    "generation": 3,
    "creationTimestamp": "2026-11-24T10:00:00Z",
    "resourceVersion": "7",
}
DEMO: dict[str, Any] = {"model": {"source": "demo://"}}


def parsed(given: dict[str, Any], **metadata: Any) -> Engine:
    return spec.parse({"metadata": METADATA | metadata, "spec": given, "status": {}})


def refused(given: dict[str, Any]) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as failure:
        parsed(given)
    return failure.value


def shown(row: Row) -> str:
    return row.path.replace(crd_values.REQUIRED, "required").replace(crd_values.PREFERRED, "preferred")


def records(root: type[Record]) -> set[type[Record]]:
    """The record and all that it is made of."""
    found, left = set(), [root]
    while left:
        record = left.pop()
        if record not in found:
            found.add(record)
            left += [part for field in record.model_fields.values() for part in parts(field.annotation)]
    return found


def parts(annotation: Any) -> list[type[Record]]:
    if isinstance(annotation, type) and issubclass(annotation, Record):
        return [annotation]
    return [part for inner in typing.get_args(annotation) for part in parts(inner)]


def field_at(path: str) -> tuple[type[Record], str]:
    """The record and the field's name on the wire that a path such as `runtime.env[0].name` leads to."""
    record: type[Record] = Spec
    *steps, last = [step for step in re.findall(r"\w+", path) if not step.isdigit()]
    for step in steps:
        [record] = parts(field_called(record, step).annotation)
    return record, last


def field_called(record: type[Record], alias: str) -> FieldInfo:
    [field] = [field for field in record.model_fields.values() if field.alias == alias]
    return field


EVERY_FIELD = sorted(
    ((record, str(field.alias)) for record in records(Spec) for field in record.model_fields.values()),
    key=lambda pair: (pair[0].__name__, pair[1]),
)


def named(pair: Any) -> str:
    return pair.__name__ if isinstance(pair, type) else str(pair)


def test_an_object_becomes_what_the_operator_works_with() -> None:
    engine = parsed(DEMO)
    assert (engine.namespace, engine.name, engine.uid, engine.generation) == ("team", "qwen", "u-1", 3)
    assert engine.created == datetime(2026, 11, 24, 10, tzinfo=UTC)
    assert not engine.is_deleting
    assert parsed(DEMO, deletionTimestamp="2026-11-24T11:00:00Z").is_deleting


def test_it_is_served_under_its_own_name_unless_it_has_another() -> None:
    assert parsed(DEMO).served_name == "qwen"
    assert parsed({"model": {"name": "Qwen/Qwen3", "source": "demo://"}}).served_name == "Qwen/Qwen3"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("demo://", Source("demo", "demo://")),
        ("hf://org/name", Source("hub", "hf://org/name", repository="org/name")),
        ("hf://org/name@v1", Source("hub", "hf://org/name@v1", repository="org/name", revision="v1")),
        ("pvc://models", Source("claim", "pvc://models", claim="models")),
        ("pvc://models/a/b", Source("claim", "pvc://models/a/b", claim="models", path="a/b")),
        ("oci://host:5000/a:1", Source("image", "oci://host:5000/a:1", image="host:5000/a:1")),
    ],
)
def test_a_source_is_read_into_its_parts(text: str, expected: Source) -> None:
    assert parsed({"model": {"source": text}}).source == expected


def test_no_path_leaves_its_volume() -> None:
    for path in ("..", "../a", "a/..", "a/../b", "./a", "/a", "a//b", "a/", "..a/../.."):
        with pytest.raises(InvalidRequest, match="write pvc://claim"):
            source.parse(f"pvc://models/{path}")


def test_what_is_not_given_has_its_default() -> None:
    given = parsed(DEMO).spec
    assert (given.replicas, given.protocol, given.rollout, given.shm_size) == (1, "chat", "Surge", "64Mi")
    assert (given.grace_period_seconds, given.startup_seconds) == (60, 3600)
    assert (given.cache, given.affinity, given.tolerations, given.runtime.env) == (None, None, (), ())


def test_a_record_goes_into_a_manifest_as_it_was_written() -> None:
    engine = parsed(copy.deepcopy(crd_values.FULL))
    assert engine.spec.manifest() == crd_values.FULL


def test_a_spec_can_not_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        parsed(DEMO).spec.replicas = 2


def test_a_quantity_is_text_however_it_was_written() -> None:
    limits = {"nvidia.com/gpu": 1, "cpu": "500m"}
    assert parsed(DEMO | {"resources": {"limits": limits}}).spec.resources.limits == {
        "nvidia.com/gpu": "1",
        "cpu": "500m",
    }


@pytest.mark.parametrize(
    ("size", "number"),
    [("1", 1), ("1k", 1000), ("1Ki", 1024), ("1.5Gi", 3 * 2**29), ("2T", 2 * 10**12), ("1Pi", 2**50)],
)
def test_a_size_comes_to_as_many_bytes_as_kubernetes_counts(size: str, number: int) -> None:
    assert in_bytes(size) == number


@pytest.mark.parametrize("row", crd_values.ROWS, ids=shown)
def test_python_takes_what_the_crd_takes(row: Row) -> None:
    for given in row.specs():
        parsed(given)


@pytest.mark.parametrize(
    ("given", "bad", "where"),
    [
        pytest.param(given, bad, row.where(bad), id=f"{shown(row)}-{number}")
        for row in crd_values.ROWS
        for number, (given, bad) in enumerate(row.bad_specs())
        if not bad.server_only
    ],
)
def test_python_refuses_what_the_crd_refuses_and_names_the_field(given: dict[str, Any], bad: Bad, where: str) -> None:
    failure = refused(given)
    place = re.sub(r"\[[a-z]+\]$", "", where)
    assert any(str(detail["loc"]).startswith(place) for detail in failure.details), failure.details
    assert failure.message.startswith(f"{failure.details[0]['loc']}: ")


def test_every_field_has_a_boundary_value_and_a_bad_one() -> None:
    has_good = {field_at(row.path) for row in crd_values.ROWS if row.good and not row.path.endswith("]")}
    has_bad = {field_at(row.path) for row in crd_values.ROWS if row.bad and not row.path.endswith("]")}
    assert [pair for pair in EVERY_FIELD if pair not in has_good or pair not in has_bad] == []


def test_the_full_example_has_every_field() -> None:
    given = Spec.model_validate(crd_values.FULL)
    missing = [
        f"{type(record).__name__}.{name}"
        for record in _all(given)
        for name in type(record).model_fields
        if getattr(record, name) is None and name not in ("claim", "match_labels", "match_expressions")
    ]
    assert missing == []


def _all(value: Any) -> list[Record]:
    if isinstance(value, Record):
        return [value, *(inner for name in type(value).model_fields for inner in _all(getattr(value, name)))]
    return [inner for item in value for inner in _all(item)] if isinstance(value, tuple) else []


@pytest.mark.parametrize(("record", "alias"), EVERY_FIELD, ids=named)
def test_every_field_is_described_in_words_and_no_more_than_needed(record: type[Record], alias: str) -> None:
    description = field_called(record, alias).description or ""
    assert description.endswith("."), description
    assert 10 < len(description) < 400


@pytest.mark.parametrize("record", sorted(records(Spec) | records(Status), key=named), ids=named)
def test_every_text_list_map_and_number_has_bounds(record: type[Record]) -> None:
    open_ended = [str(field.alias) for field in record.model_fields.values() if not _is_bounded(field)]
    assert open_ended == []


def _is_bounded(field: FieldInfo) -> bool:
    return _bounded(field.annotation, field.metadata)


def _bounded(annotation: Any, metadata: typing.Sequence[Any] = ()) -> bool:
    """Whether nothing of this type can be without end: what is in it neither."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _bounded(inner[0], (*inner[1:], *metadata))
    if origin is typing.Literal or annotation in (type(None), datetime):
        return True
    if isinstance(annotation, type) and issubclass(annotation, Record):
        return True
    has = {type(limit) for limit in metadata}
    if annotation is int:
        return {Ge, Le} <= has
    if annotation is str:
        return MaxLen in has
    if origin in (tuple, dict) or "Mapping" in str(origin):
        return MaxLen in has and all(_bounded(kind) for kind in inner if kind is not Ellipsis)
    return bool(inner) and all(_bounded(kind, metadata) for kind in inner)


def test_what_is_open_ended_would_be_found() -> None:
    class Open(Record):
        text: str
        words: typing.Annotated[tuple[str, ...], MaxLen(3)]
        number: typing.Annotated[int, Ge(0)] | None

    assert [name for name, field in Open.model_fields.items() if not _is_bounded(field)] == ["text", "words", "number"]


def test_the_engine_takes_every_bound_and_default_of_the_runtime() -> None:
    numbers = {
        "maxBatchSize": "MAX_BATCH_SIZE",
        "maxContext": "MAX_CONTEXT",
        "maxQueue": "MAX_QUEUE",
        "threads": "THREADS",
    }
    own = runtime_settings.from_env({})
    for alias, variable in numbers.items():
        field = field_called(Runtime, alias)
        assert field.default == getattr(own, variable.lower())
        limits = [getattr(limit, "ge", getattr(limit, "le", None)) for limit in field.metadata]
        low, high = [limit for limit in limits if limit is not None]
        for value in (low, high):
            runtime_settings.from_env({f"MODELENGINE_{variable}": str(value)})
        for value in (low - 1, high + 1):
            with pytest.raises(InvalidRequest):
                runtime_settings.from_env({f"MODELENGINE_{variable}": str(value)})
    assert typing.get_args(field_called(Runtime, "dtype").annotation) == runtime_settings.DTYPES
    assert typing.get_args(field_called(Runtime, "quantization").annotation) == runtime_settings.QUANTIZATIONS


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({}, "spec.model: is required"),
        (DEMO | {"replica": 2}, "spec.replica: unknown field"),
        (DEMO | {"replicas": 1001}, "spec.replicas: must be less than or equal to 1000"),
        ({"model": {"source": "s3://a"}}, f"spec.model.source: must be {source.SCHEMES}"),
        (DEMO | {"cache": {"size": "1Gi"}}, f"spec.cache: {spec.HUB_ONLY_MESSAGE}"),
        (
            DEMO | {"runtime": {"env": [{"name": "MODELENGINE_X"}]}},
            f"spec.runtime.env[0].name: {runtime.RESERVED_MESSAGE}",
        ),
    ],
)
def test_an_object_from_before_a_rule_is_refused_in_a_sentence(given: dict[str, Any], sentence: str) -> None:
    assert refused(given).message == sentence
