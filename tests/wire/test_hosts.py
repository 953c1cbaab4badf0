"""A front door and the pages of browsers: its own, those that are allowed, and all others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from callers import OpenFrontDoor, Reply, ask
from modelengine_api.pages import Policy

APP = "https://app.example.com"


@pytest.fixture
def door(open_front_door: OpenFrontDoor, tmp_path: Path) -> str:
    (tmp_path / "somebody").write_text("the-key-of-somebody")
    return open_front_door(api_keys=str(tmp_path), pages=Policy(frozenset({APP}), is_loopback=True))


def get(door: str, path: str = "/v1/models", method: str = "GET", **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return ask(door, path, method=method, headers={"authorization": "Bearer the-key-of-somebody"} | named)


def cors(reply: Reply) -> dict[str, str]:
    return {name: value for name, value in reply.headers.items() if name.startswith("access-control-")}


def test_a_foreign_host_or_origin_is_a_403_in_the_words_of_the_api_and_without_cors(door: str) -> None:
    for headers in ({"host": "evil.example"}, {"origin": "http://evil.example"}, {"origin": "null"}):
        reply = get(door, **headers)
        assert (reply.status, cors(reply)) == (403, {})
        assert "evil.example" in reply.envelope["error"]["message"] or headers["origin"] == "null"
        assert json.loads(get(door, "/nameserver/info", "POST", **headers).body)["code"] == "forbidden"


def test_its_own_page_is_answered_without_cors(door: str) -> None:
    reply = get(door, origin=f"http://{door}")
    assert (reply.status, cors(reply)) == (200, {})
    assert get(door).status == 200


def test_an_allowed_page_is_answered_and_its_browser_told_so_also_of_errors(door: str) -> None:
    for path, status in (("/v1/models", 200), ("/v1/models/nobody", 404)):
        reply = get(door, path, origin=APP)
        assert (reply.status, reply.headers["access-control-allow-origin"]) == (status, APP)
        assert "Origin" in reply.headers["vary"]
        assert "retry-after" in reply.headers["access-control-expose-headers"]
    refused = get(door, origin=APP, authorization="Bearer nobody's")
    assert (refused.status, refused.headers["access-control-allow-origin"]) == (401, APP)


def test_a_preflight_of_an_allowed_page_needs_no_key_and_another_pages_is_refused(door: str) -> None:
    asks = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}
    reply = ask(door, "/v1/chat/completions", method="OPTIONS", headers={"origin": APP, **asks})
    assert (reply.status, reply.body) == (204, b"")
    assert cors(reply) == {
        "access-control-allow-origin": APP,
        "access-control-allow-methods": "GET, POST",
        "access-control-allow-headers": "authorization,content-type",
        "access-control-max-age": "600",
    }
    for origin in ("http://evil.example", f"{APP}.evil.example"):
        reply = ask(door, "/v1/chat/completions", method="OPTIONS", headers={"origin": origin, **asks})
        assert (reply.status, cors(reply)) == (403, {})
    assert ask(door, "/v1/models", method="OPTIONS", headers={"origin": APP}).status == 401
