"""The description of the API: whole, in the standard's terms, and true for every route."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
import schemathesis
from fastapi import APIRouter, FastAPI, Response

from callers import OpenFrontDoor, ask
from modelengine.protocol import NameServerMethod
from modelengine_api import openapi
from modelengine_gateway import app
from modelengine_gateway.settings import Settings


@pytest.fixture(scope="module")
def document() -> Any:
    return json.loads(json.dumps(app.create(Settings()).app.openapi()))


def refs(node: Any) -> set[str]:
    if isinstance(node, list):
        return set().union(*map(refs, node))
    if not isinstance(node, dict):
        return set()
    own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
    return own.union(*map(refs, node.values()))


def test_every_route_says_what_it_takes_and_what_it_answers(document: Any) -> None:
    ours = {path: item for path, item in document["paths"].items() if path.startswith(("/engine/", "/nameserver/"))}
    posts = {path: item["post"] for path, item in ours.items()}
    assert {f"/nameserver/{method}" for method in NameServerMethod} <= posts.keys()
    takes_nothing = {"/nameserver/info", "/nameserver/support_methods"}
    assert {path for path, operation in posts.items() if "requestBody" not in operation} == takes_nothing
    for path, operation in posts.items():
        assert operation["responses"]["200"]["content"], path
        assert {"400", "401", "413", "503"} <= operation["responses"].keys(), path


def test_what_is_referred_to_stands_in_it_once(document: Any) -> None:
    found = refs(document)
    assert found == {openapi.COMPONENTS + name for name in document["components"]["schemas"]}
    assert len(found) > 4
    assert "$defs" not in json.dumps(document)


def test_the_bounds_of_the_records_stand_in_it(document: Any) -> None:
    options = document["components"]["schemas"]["ChatOptions"]
    assert options["additionalProperties"] is False
    assert options["properties"]["temperature"]["anyOf"][0] == {"type": "number", "minimum": 0, "maximum": 5}


def test_a_tool_that_knows_the_standard_finds_every_operation(document: Any) -> None:
    found = {operation.ok().label for operation in schemathesis.openapi.from_dict(document).get_all_operations()}
    assert {"POST /engine/inference", "POST /nameserver/get_services", "GET /ready"} <= found


def test_it_is_served_as_it_is_made_however_often_it_is_asked_for(
    open_front_door: OpenFrontDoor, document: Any
) -> None:
    address = open_front_door()
    for _ in range(2):
        assert json.loads(ask(address, "/openapi.json", method="GET").body) == document


def test_two_records_of_one_name_are_two_in_it() -> None:
    def record(**fields: Any) -> Any:
        inner = dataclass(type("Inner", (), {"__annotations__": fields}))
        return dataclass(type("Outer", (), {"__annotations__": {"inner": inner}}))

    router = APIRouter()
    for path, fields in (("/a", {"x": int}), ("/b", {"y": str}), ("/c", {"x": int})):

        @router.post(path, openapi_extra=openapi.operation(body=record(**fields)))
        async def route() -> Response:
            return Response()

    described = FastAPI()
    described.include_router(router)
    openapi.install(described)
    document = described.openapi()
    assert {name: set(schema["properties"]) for name, schema in document["components"]["schemas"].items()} == {
        "Inner": {"x"},
        "Inner2": {"y"},
    }
    body = document["paths"]["/b"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["properties"]["inner"] == {"$ref": "#/components/schemas/Inner2"}
