"""Requests that are made to hurt: each is refused in time and in words, and the server goes on as before.

Time is what this process computed, servers included: by the clock it would be told how busy the machine is.
"""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator

import psutil
import pytest

from callers import OpenFrontDoor, StartEngine, ask, list_at
from fakes import FakeEngine
from modelengine_api.bodies import MAX_NESTING, is_nested_deeper

ROUTES = ("/engine/inference", "/v1/chat/completions", "/api/chat")
GOOD = {"model": "demo", "messages": [{"role": "user", "content": "hi"}], "stream": False}


@pytest.fixture
def fake() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def door(open_front_door: OpenFrontDoor, start_engine: StartEngine, fake: FakeEngine) -> Iterator[str]:
    """A front door with an engine behind it; both answer as before when the test is over."""
    address = open_front_door()
    info = start_engine(fake, address)
    yield address
    # By now its lease may have ended.
    list_at(info, address)
    assert ask(address, "/engine/inference", GOOD).status == 200
    assert fake.open_streams == 0


def nested(depth: int) -> bytes:
    tool = b'{"type": "function", "function": {"name": "f", "parameters": {"a": %s}}}'
    # The body, its list of tools, the tool, its function and its parameters are five.
    inner = b"[" * (depth - 5) + b"]" * (depth - 5)
    return b'{"model": "demo", "stream": false, "messages": [{"role": "user", "content": "hi"}], "tools": [%s]}' % (
        tool % inner
    )


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    "body",
    [
        nested(MAX_NESTING + 1),
        b"[" * 100_000,
        b'{"a":' * 100_000,
        json.dumps(GOOD).encode().replace(b'"hi"', b"NaN"),
        json.dumps({**GOOD, "options": {"temperature": 1}, "temperature": 1}).encode().replace(b"1", b"NaN"),
        json.dumps({**GOOD, "options": {"temperature": 1}, "temperature": 1}).encode().replace(b"1", b"1e999"),
        json.dumps(GOOD).encode().replace(b"hi", b"\x00"),
        json.dumps(GOOD).encode().replace(b"hi", b"\\ud800"),
        json.dumps(GOOD).encode().replace(b"hi", b"\xff\xfe"),
        json.dumps(GOOD).encode() + b"{}",
        json.dumps({**GOOD, "messages": {"role": "user"}}).encode(),
        json.dumps({**GOOD, "messages": [[]]}).encode(),
        json.dumps({**GOOD, "model": ["demo"]}).encode(),
        json.dumps({**GOOD, "stream": "yes"}).encode(),
        json.dumps({**GOOD, "messages": [{"role": "user", "content": "x"}] * 5000}).encode(),
        json.dumps({**GOOD, "n": 10**9, "options": {"num_predict": "many"}}).encode(),
        json.dumps({**GOOD, "options": {"stop": ["x"] * 1_000_00}, "stop": ["x"] * 100_000}).encode(),
        json.dumps({**GOOD, "options": {"top_logprobs": 10**6}, "top_logprobs": 10**6, "logprobs": True}).encode(),
        json.dumps({**GOOD, "options": {"seed": 10**400}, "seed": 10**400}).encode(),
        b"",
        b"null",
        b"7",
    ],
    ids=lambda body: str(body[:40] if len(body) < 2000 else body[-40:]),
)
def test_a_body_that_no_schema_allows_is_a_400_at_once_and_reaches_no_engine(
    door: str, fake: FakeEngine, route: str, body: bytes
) -> None:
    started = time.process_time()
    reply = ask(door, route, body)
    assert reply.status == 400, reply.body
    assert time.process_time() - started < 1
    assert len(reply.body) < 5000
    assert fake.requests == []


def test_a_body_may_be_nested_as_deep_as_is_allowed(door: str, fake: FakeEngine) -> None:
    assert ask(door, "/engine/inference", nested(MAX_NESTING)).status == 200
    brackets_in_text = {**GOOD, "messages": [{"role": "user", "content": '[{"\\' * 1000}]}
    assert ask(door, "/engine/inference", brackets_in_text).status == 200


@pytest.mark.parametrize(
    ("body", "depth"),
    [
        (b"[" * 65 + b"]" * 65, 65),
        (b'{"a":[' * 40 + b"]}" * 40, 80),
        (b"[" + b"[]," * 100 + b"[]]", 2),
        (b'["' + b"[" * 100 + b'"]', 1),
        (b'["\\"' + b"[" * 100 + b'"]', 1),
        (b'["\\\\", ' + b"[" * 70 + b"]" * 71, 71),
        (b'{"' + b"[" * 100, 1),
    ],
)
def test_the_depth_of_a_body_is_counted_outside_of_its_texts(body: bytes, depth: int) -> None:
    assert not is_nested_deeper(body, max(depth, 64))
    assert is_nested_deeper(body, 64) == (depth > 64)


def test_a_large_body_that_is_made_to_be_slow_to_count_is_not() -> None:
    started = time.process_time()
    for piece in (b"[", b"[]", b'"\\', b'["x",', b"[" * 63 + b"]" * 63):
        is_nested_deeper(piece * (1_000_000 // len(piece)), 64)
    assert time.process_time() - started < 2


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    "wrong",
    [
        {"messages": [1] * 500_000},
        {"messages": [{"role": "user", "content": [None] * 500_000}]},
        {"resume": {"token_ids": [None] * 500_000}, "tools": [None] * 500_000, "format": 7},
        {f"k{i}": 1 for i in range(100_000)},
        {"messages": [[1]] * 500_000},
    ],
    ids=["messages", "content", "nulls", "fields", "lists"],
)
def test_a_million_faults_are_told_as_one_so_that_nobody_else_waits(
    door: str, route: str, wrong: dict[str, object]
) -> None:
    """With all of them named it took from 15 to 50 s, in which the server did nothing else."""
    started = time.process_time()
    reply = ask(door, route, json.dumps({**GOOD, **wrong}).encode())
    assert time.process_time() - started < 5
    assert reply.status == 400
    assert len(reply.body) < 5000


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    "headers",
    [
        {"content-encoding": "gzip"},
        {"content-encoding": "GZIP, identity"},
        {"content-encoding": "br"},
        {"content-type": "multipart/form-data; boundary=x"},
    ],
    ids=str,
)
def test_a_body_that_is_compressed_or_in_parts_is_a_415(door: str, route: str, headers: dict[str, str]) -> None:
    bomb = gzip.compress(b"x" * 50_000_000)
    reply = ask(door, route, bomb, headers=headers)
    assert (reply.status, reply.headers["connection"]) == (415, "close")
    assert b"send" in reply.body


def test_a_body_as_curl_sends_it_by_default_is_read(door: str) -> None:
    headers = {"content-type": "application/x-www-form-urlencoded", "content-encoding": "identity"}
    assert ask(door, "/engine/inference", GOOD, headers=headers).status == 200


def test_ranges_are_not_served(door: str) -> None:
    ranges = ",".join(f"{i}-{i}" for i in range(1000))
    for path in ("/ready", "/v1/models", "/openapi.json"):
        reply = ask(door, path, method="GET", headers={"range": f"bytes={ranges}"})
        assert (reply.status, "content-range" in reply.headers) == (200, False)


def test_strange_paths_and_methods_are_answered_and_none_is_followed(door: str) -> None:
    for path in (
        "/../../etc/passwd",
        "/page/..%2f..%2fetc%2fpasswd",
        "/%00",
        "/%ff%fe",
        "//evil.example/x",
        "/" + "a" * 5000,
    ):
        assert ask(door, path, method="GET").status == 404, path
    for method in ("TRACE", "CONNECT", "PROPFIND", "DELETE"):
        assert ask(door, "/engine/inference", method=method).status in (400, 404, 405), method


def test_refusing_costs_no_memory(door: str, fake: FakeEngine) -> None:
    body = json.dumps({**GOOD, "options": {"stop": ["x" * 200] * 20_000}})

    def refuse(times: int) -> int:
        for _ in range(times):
            assert ask(door, "/engine/inference", body.encode()).status == 400
        return int(psutil.Process().memory_info().rss)

    before = refuse(20)
    assert refuse(60) < before * 1.2
