"""Requests that the description allows and those that it does not, by the thousand; `make fuzz` sends fifty times as
many."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from bench.fuzz import __main__ as fuzz
from bench.fuzz import requests, sending, streams
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi import checks as openapi_checks

from callers import OpenFrontDoor, StartEngine, ask
from fakes import FakeEngine
from modelengine import NameServerClient


def test_mutated_requests_and_broken_streams_break_nothing_leave_nothing_open_and_cost_no_memory(
    tmp_path: Path,
) -> None:
    with fuzz.opened(tmp_path) as door:
        assert fuzz.fuzzed(door, requests_count=2000, streams_count=300, seed=random.randrange(10**6)) == []


def test_a_seed_gives_the_same_requests_and_streams_again(open_front_door: OpenFrontDoor) -> None:
    document = json.loads(ask(open_front_door(), "/openapi.json", method="GET").body)

    def first(seed: int) -> list[Any]:
        of_requests = requests.endless(document, random.Random(seed))
        of_bytes = streams.endless(random.Random(seed))
        return [*itertools.islice(of_requests, 50), *itertools.islice(of_bytes, 50)]

    assert first(7) == first(7)
    assert first(7) != first(8)


def test_what_may_not_be_answered_is_found_wrong() -> None:
    heard = sending.Heard()
    for answer in (
        b"HTTP/1.1 500 Internal Server Error\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"",
        b"nonsense",
        b"HTTP/1.1 503 \r\n",
    ):
        heard.take(b"sent", answer)
    assert [line.partition(" -> ")[2] for line in heard.wrong] == [
        "b'HTTP/1.1 500 Internal Server Error\\r\\n'",
        "b'nonsense'",
    ]
    assert str(heard) == "nothing: 2, 200: 1, 500: 1, 503: 1"


CHECKS = [
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_schema_conformance,
]
# A watch never ends.
ENDLESS = {"POST /nameserver/watch"}


def test_every_answer_is_as_the_description_says(open_front_door: OpenFrontDoor, start_engine: StartEngine) -> None:
    door = open_front_door(lease_s=10)
    info = start_engine(FakeEngine(), door)
    schema = schemathesis.openapi.from_url(f"http://{door}/openapi.json")
    found = [result.ok() for result in schema.get_all_operations()]
    asked = 0
    for operation in found:
        if operation.label in ENDLESS:
            continue

        @settings(
            max_examples=8,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def holds(case: Any) -> None:
            nonlocal asked
            asked += 1
            if case.path == "/nameserver/wait" and isinstance(case.body, dict):
                case.body["timeout_s"] = 0.01
            case.call_and_validate(checks=CHECKS)

        try:
            holds()
        except FailureGroup as failures:
            pytest.fail("\n".join(f"{operation.label}: {failure}" for failure in failures.exceptions))
        with NameServerClient(door) as names:
            names.register(info)
    assert asked > 5 * len(found) / 2
