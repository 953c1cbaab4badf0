"""A front door that asks for keys: who is let in, what exists for whom, and what a key has left."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import modelengine
from callers import OpenFrontDoor, Reply, StartEngine, ask, list_at, until
from fakes import FakeEngine
from modelengine import AsyncChatClient, ChatClient, NameServerClient, ServerInfo, errors
from modelengine_gateway import access, keyfile

CHAT = "/engine/inference"
ADMIN = "the-key-of-the-admin"
ONE = "the-key-that-sees-one"
SLOW = "the-key-with-limits-"
KEYS = {
    "admin": {"key": ADMIN, "scopes": ["chat", "names", "register"]},
    "one": {"key": ONE, "models": ["demo"]},
    "limited": {"key": SLOW, "requestsPerMinute": 3, "tokensPerMinute": 1000, "streams": 1},
    "some": {"key": "the-key-that-sees-some", "models": ["demo*"]},
    "looker": {"key": "the-key-that-has-names-", "models": ["demo"], "scopes": ["names"]},
    "registrar": {"key": "the-key-of-the-engines", "models": ["demo*"], "scopes": ["register"]},
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    path.write_text(json.dumps(KEYS))
    return path


@pytest.fixture
def door(open_front_door: OpenFrontDoor, file: Path) -> str:
    return open_front_door(api_keys=str(file))


@pytest.fixture
def serve(door: str, start_engine: StartEngine) -> Callable[..., ServerInfo]:
    """Starts a fake engine and registers it, with the admin's key."""

    def start(fake: FakeEngine) -> ServerInfo:
        info = start_engine(fake)
        list_at(info, door, api_key=ADMIN)
        return info

    return start


def chat(door: str, key: str | None, model: str = "demo", *, stream: bool = False, **headers: str) -> Reply:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": stream}
    return ask(door, CHAT, body, headers=bearer(key) | headers)


def bearer(key: str | None) -> dict[str, str]:
    return {} if key is None else {"authorization": f"Bearer {key}"}


def repeatable(reply: Reply) -> tuple[int, dict[str, str], bytes]:
    return reply.status, {k: v for k, v in reply.headers.items() if k not in ("date", "x-request-id")}, reply.body


def test_without_a_key_and_with_a_wrong_one_the_answer_is_the_same_401_on_every_path(door: str) -> None:
    for path in (CHAT, "/v1/models", "/v1/chat/completions", "/api/tags", "/nameserver/info", "/openapi.json", "/no"):
        missing = ask(door, path, {})
        assert (missing.status, missing.headers["www-authenticate"]) == (401, "Bearer"), path
        for headers in (
            bearer("the-key-of-nobody"),
            {"x-api-key": "the-key-of-nobody"},
            {"authorization": f"Basic {ADMIN}"},
            {"authorization": ADMIN},
            {"authorization": "Bearer "},
            {"authorization": "Bearer \xff\xfe"},
        ):
            assert repeatable(ask(door, path, {}, headers=headers)) == repeatable(missing), path
    assert ask(door, "/v1/models").envelope["error"]["code"] == "invalid_api_key"
    assert ask(door, CHAT, {}).envelope["code"] == "unauthorized"


def test_probes_and_the_page_need_no_key(door: str) -> None:
    for path in ("/health", "/ready", "/"):
        assert ask(door, path, method="GET").status == 200, path
    assert ask(door, "/page/nothing.js", method="GET").status == 404
    assert ask(door, "/page/nothing.js", {}).status == 401
    assert ask(door, "/", {}).status == 401


def test_a_key_comes_in_either_header(door: str, serve: Callable[..., ServerInfo]) -> None:
    serve(FakeEngine())
    assert chat(door, ONE).status == 200
    assert chat(door, None, **{"x-api-key": ONE}).status == 200
    assert chat(door, None, authorization=f"bearer  {ONE} ").status == 200


@pytest.mark.parametrize("stream", [True, False])
def test_a_model_that_a_key_may_not_use_is_the_same_as_one_that_is_not_there(
    door: str, serve: Callable[..., ServerInfo], stream: bool
) -> None:
    for name in ("demo", "demo-secret", "secret"):
        serve(FakeEngine(name))

    def heard(model: str, key: str) -> tuple[Any, ...]:
        bodies: list[tuple[str, Any]] = [
            (CHAT, {"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": stream}),
            ("/engine/info", {"model": model}),
            ("/engine/support_methods", {"model": model}),
            ("/v1/chat/completions", {"model": model, "messages": [{"role": "user", "content": "hi"}]}),
            ("/api/show", {"model": model}),
            ("/api/chat", {"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": stream}),
            ("/v1/embeddings", {"model": model, "input": "hi"}),
            ("/v1/rerank", {"model": model, "query": "hi", "documents": ["hi"]}),
            ("/v2/rerank", {"model": model, "query": "hi", "documents": ["hi"]}),
            ("/api/embed", {"model": model, "input": "hi"}),
            ("/nameserver/get_services", {"protocol": "chat", "name": model}),
        ]
        replies = [ask(door, path, body, headers=bearer(key)) for path, body in bodies]
        replies.append(ask(door, f"/v1/models/{model}", method="GET", headers=bearer(key)))
        return tuple((reply.status, reply.body.replace(model.encode(), b"MODEL")) for reply in replies)

    # Alike in length, and as far from what may be seen.
    assert heard("secret", ONE) == heard("nobody", ONE)
    assert heard("demo-secret", ONE) == heard("demo-nobody", ONE)
    assert heard("secret", ONE) != heard("secret", ADMIN)
    assert b"secret" not in b"".join(part for _, part in heard("nobody", ONE))
    assert b"secret" in b"".join(part for _, part in heard("nobody", ADMIN))


def test_who_asks_for_a_name_that_is_not_there_hears_of_no_model_that_it_may_not_use(
    door: str, serve: Callable[..., ServerInfo]
) -> None:
    for name in ("demo", "secret"):
        serve(FakeEngine(name))
    for stream in (True, False):
        reply = chat(door, "the-key-that-sees-some", "demo-nobody", stream=stream)
        assert reply.status == 404
        assert reply.msg == "no model 'demo-nobody'; did you mean 'demo'? (known: demo)"


def test_a_watch_is_not_woken_by_a_model_that_does_not_exist_for_who_watches(
    door: str, serve: Callable[..., ServerInfo]
) -> None:
    for key, snapshots in ((ONE, 1), (ADMIN, 2)):
        with NameServerClient(door, api_key=key) as names, names.watch(name="secret", timeout_s=1) as watch:
            assert next(watch) == []
            info = serve(FakeEngine("secret"))
            if snapshots == 1:
                with pytest.raises(errors.StreamBroken, match="silent"):
                    next(watch)
            else:
                assert next(watch) == [info]
        with NameServerClient(door, api_key=ADMIN) as names:
            names.deregister(info)


def test_a_watch_of_who_is_not_told_everything_counts_only_what_it_is_told(
    door: str, serve: Callable[..., ServerInfo]
) -> None:
    with watching(door, ONE) as told:
        assert next(told)["msg"] == {"revision": 1, "services": []}
        serve(FakeEngine("secret"))
        serve(FakeEngine())
        # A second replica behind the same front door is nothing new to it.
        serve(FakeEngine())
        with NameServerClient(door, api_key=ADMIN) as names:
            for info in names.get_services("chat", "demo"):
                names.deregister(info)
        seen = [next(told)["msg"] for _ in range(2)]
    assert [(msg["revision"], len(msg["services"])) for msg in seen] == [(2, 1), (3, 0)]


@pytest.mark.parametrize(
    ("keys", "code"),
    [
        ({"admin": KEYS["admin"]}, "unauthorized"),
        ({"admin": KEYS["admin"], "one": {"key": ONE, "models": ["*"]}}, "unavailable"),
    ],
)
def test_a_watch_ends_when_its_key_is_taken_away_or_may_do_other_things(
    door: str, file: Path, serve: Callable[..., ServerInfo], keys: dict[str, Any], code: str
) -> None:
    with watching(door, ONE) as told:
        assert next(told)["state"] == "ok"
        file.write_text(json.dumps(keys))
        assert until(lambda: chat(door, SLOW).status == 401, 2 * keyfile.LOOK_S)
        serve(FakeEngine())
        last = next(told)
        assert (last["state"], last["code"]) == ("error", code)


@contextmanager
def watching(door: str, key: str) -> Iterator[Iterator[Any]]:
    """The lines of a watch of everything."""
    connection = http.client.HTTPConnection(door, timeout=5)
    connection.request("POST", "/nameserver/watch", b"{}", {"content-type": "application/json", **bearer(key)})
    try:
        yield map(json.loads, connection.getresponse())
    finally:
        connection.close()


def test_lists_have_only_what_the_key_may_use(door: str, serve: Callable[..., ServerInfo]) -> None:
    for name in ("demo", "secret"):
        serve(FakeEngine(name))

    def listed(key: str) -> list[Any]:
        def get(path: str) -> Any:
            return json.loads(ask(door, path, method="GET", headers=bearer(key)).body)

        with NameServerClient(door, api_key=key) as names, names.watch() as watch:
            return [
                [model["id"] for model in get("/v1/models")["data"]],
                [model["name"].removesuffix(":latest") for model in get("/api/tags")["models"]],
                names.get_service_names("chat"),
                [info.name for info in next(watch)],
                ["demo"] * names.info()["names"] if key == ONE else ["demo", "secret"],
            ]

    assert listed(ONE) == [["demo"]] * 5
    assert listed(ADMIN) == [["demo", "secret"]] * 5


def test_who_waits_for_a_model_that_it_may_not_use_waits_as_for_nobody(
    door: str, serve: Callable[..., ServerInfo]
) -> None:
    serve(FakeEngine("secret"))

    def waited(name: str) -> tuple[int, bytes]:
        query = {"protocol": "chat", "name": name, "timeout_s": 0.3}
        started = time.monotonic()
        reply = ask(door, "/nameserver/wait", query, headers=bearer(ONE))
        assert time.monotonic() - started > 0.25
        return reply.status, reply.body.replace(name.encode(), b"MODEL")

    assert waited("secret") == waited("nobody")


def test_who_may_not_have_addresses_is_told_the_front_doors_own_and_chats_through_it(
    door: str, serve: Callable[..., ServerInfo]
) -> None:
    engine = serve(FakeEngine())
    host, port = door.split(":")
    with ChatClient(door, api_key=ONE) as client:
        assert client.wait_service_available("demo") == [ServerInfo("demo", host, int(port))]
        assert client.chat("demo", [{"role": "user", "content": "hi"}]).content == "Hello world!"
        parts = client.chat("demo", [{"role": "user", "content": "hi"}], stream=True)
        assert "".join(part.content or "" for part in parts) == "Hello world!"
        assert client.info("demo")["name"] == "demo"
    with ChatClient(door, api_key=ADMIN) as client:
        assert client.get_services("demo") == [engine]


async def test_the_asyncio_client_sends_the_key_of_the_environment(
    door: str, serve: Callable[..., ServerInfo], monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(FakeEngine())
    monkeypatch.setenv("MODELENGINE_API_KEY", ONE)
    async with AsyncChatClient(door) as client:
        answer = await client.chat("demo", [{"role": "user", "content": "hi"}])
    assert answer.content == "Hello world!"
    async with AsyncChatClient(door, api_key="") as client:
        with pytest.raises(errors.Unauthorized, match="an API key is needed"):
            await client.get_service_names()


def test_a_client_shows_its_key_to_the_name_server_and_to_no_engine() -> None:
    headers = modelengine.flows.key_headers("http://door:9527/path", ADMIN)
    assert headers("http://door:9527/engine/inference") == {"authorization": f"Bearer {ADMIN}"}
    for other in ("http://10.0.0.1:9527", "http://door:9528", "https://door:9527", "http://door:9527.evil"):
        assert headers(f"{other}/engine/inference") == {}
    with pytest.raises(errors.InvalidRequest, match="api_key"):
        modelengine.flows.key_headers("http://door:9527", "a\r\nhost: b")


def test_engines_are_told_whose_prompts_must_not_meet(
    open_front_door: OpenFrontDoor, file: Path, start_engine: StartEngine
) -> None:
    file.write_text(json.dumps({**KEYS, "sharer": {"key": "the-key-of-who-shares", "cache": "shared"}}))
    fake = FakeEngine()
    doors = [open_front_door(api_keys=str(file)) for _ in range(2)]
    info = start_engine(fake)
    for door in doors:
        with NameServerClient(door, api_key=ADMIN) as names:
            names.register(info)

    def salt(door: str, key: str, path: str = CHAT, **fields: Any) -> str | None:
        body = {"model": "demo", "messages": [{"role": "user", "content": "hi"}], **fields}
        assert ask(door, path, body, headers=bearer(key)).status == 200
        return fake.requests[-1].cache_salt

    mine = salt(doors[0], ONE)
    assert mine == salt(doors[1], ONE, stream=False) == salt(doors[0], ONE, "/v1/chat/completions")
    others = [salt(doors[0], ADMIN), salt(doors[0], ONE, cache_salt="x"), salt(doors[0], ADMIN, cache_salt=mine)]
    assert len({mine, None, *others}) == 5
    assert salt(doors[0], "the-key-of-who-shares") is None
    assert salt(doors[0], "the-key-of-who-shares", "/v1/chat/completions", cache_salt="x") == "x"


def test_only_a_key_for_it_registers_and_only_names_that_it_may(door: str, start_engine: StartEngine) -> None:
    demo, other = start_engine(FakeEngine()), start_engine(FakeEngine("other"))
    with NameServerClient(door, api_key=ONE) as names:
        for call in (names.register, names.deregister):
            with pytest.raises(errors.Forbidden, match="scope 'register'"):
                call(demo)
    with NameServerClient(door, api_key="the-key-of-the-engines") as names:
        names.register(demo)
        with pytest.raises(errors.Forbidden, match="may not register 'other'"):
            names.register(other)
        assert names.deregister(demo)
        names.register(demo)
    assert chat(door, "the-key-of-the-engines").status == 403
    assert chat(door, ONE).status == 200


def test_nobody_takes_a_name_off_the_list_that_does_not_exist_for_it(
    door: str, serve: Callable[..., ServerInfo]
) -> None:
    fake = FakeEngine("secret")
    secret = serve(fake)
    fake.is_ready = False
    with NameServerClient(door, api_key="the-key-of-the-engines") as names:
        assert not names.deregister(secret)
    assert report(door, "the-key-of-the-engines", secret).msg == {"listed": False}
    with NameServerClient(door, api_key=ADMIN) as names:
        assert names.get_services("chat", "secret") == [secret]
        assert report(door, ADMIN, secret).msg == {"listed": False}
        assert names.get_services("chat", "secret") == []


def test_whoever_has_an_engine_s_address_may_report_it(door: str, serve: Callable[..., ServerInfo]) -> None:
    fake = FakeEngine()
    demo = serve(fake)
    refused = report(door, ONE, demo)
    assert (refused.status, refused.msg) == (403, "this key lacks the scope 'names' or 'register'")
    assert report(door, "the-key-that-has-names-", demo).msg == {"listed": True}
    fake.is_ready = False
    assert report(door, "the-key-that-has-names-", demo).msg == {"listed": False}


def report(door: str, key: str, info: ServerInfo) -> Reply:
    body = {"name": info.name, "host": info.host, "port": info.port, "protocol": info.protocol}
    return ask(door, "/nameserver/report", body, headers=bearer(key))


def test_requests_over_the_limit_hear_when_to_come_again_and_all_hear_what_is_left(
    door: str, serve: Callable[..., ServerInfo]
) -> None:
    serve(FakeEngine())
    left = [chat(door, SLOW, stream=bool(i % 2)).headers["x-ratelimit-remaining-requests"] for i in range(3)]
    assert left == ["2", "1", "0"]
    reply = chat(door, SLOW)
    assert (reply.status, reply.envelope["code"], reply.headers["x-ratelimit-limit-requests"]) == (
        429,
        "rate_limited",
        "3",
    )
    assert 1 <= int(reply.headers["retry-after"]) <= 20
    assert "x-ratelimit-limit-requests" not in chat(door, ONE).headers


@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_is_charged_by_its_tokens_when_it_has_ended(
    door: str, serve: Callable[..., ServerInfo], stream: bool
) -> None:
    serve(FakeEngine(words=["x"] * 297))
    chat(door, SLOW, stream=stream)
    left = int(ask(door, "/v1/models", method="GET", headers=bearer(SLOW)).headers["x-ratelimit-remaining-tokens"])
    # 3 of the prompt and 297; a few have come back already.
    assert 700 <= left < 730


def test_a_key_has_so_many_answers_at_a_time_and_gets_the_place_back_when_its_client_leaves(
    door: str, serve: Callable[..., ServerInfo]
) -> None:
    fake = FakeEngine(words=["x"] * 100, pause_s=0.05)
    serve(fake)
    with ChatClient(door, api_key=SLOW) as client:
        stream = client.chat("demo", [{"role": "user", "content": "hi"}], stream=True)
        next(stream)
        reply = chat(door, SLOW)
        assert (reply.status, reply.headers["retry-after"]) == (429, "1")
        assert "1 answer(s) at a time" in reply.msg
        assert chat(door, ONE, "nobody").status == 404
        stream.close()
    fake.pause_s = 0
    assert until(lambda: chat(door, SLOW).status == 200)


def test_what_breaks_is_charged_too_and_gives_its_place_back(door: str, serve: Callable[..., ServerInfo]) -> None:
    serve(FakeEngine(words=["x"] * 400, break_after=300))
    assert chat(door, SLOW, stream=True).lines[-1]["state"] == "error"
    reply = ask(door, "/v1/models", method="GET", headers=bearer(SLOW))
    assert int(reply.headers["x-ratelimit-remaining-tokens"]) < 730
    assert chat(door, SLOW).status == 200


def test_a_key_that_is_taken_away_is_refused_within_seconds_and_a_new_one_let_in(
    door: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ask(door, "/v1/models", method="GET", headers=bearer(ONE)).status == 200
    file.write_text(json.dumps({"new": "the-key-of-somebody-new"}))

    def status(key: str) -> int:
        return ask(door, "/v1/models", method="GET", headers=bearer(key)).status

    assert until(lambda: status("the-key-of-somebody-new") == 200, 2 * keyfile.LOOK_S)
    assert status(ONE) == 401


def test_a_front_door_that_does_not_read_its_keys_any_more_says_so_to_who_watches_over_it(
    open_front_door: OpenFrontDoor, file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(_: object) -> None:
        raise ValueError("the disk is on fire")

    monkeypatch.setattr(keyfile.KeyFile, "keep", broken)
    door = open_front_door(api_keys=str(file))
    assert until(lambda: ask(door, "/health", method="GET").status == 503)
    assert ask(door, "/health", method="GET").msg == "not kept any more: file of API keys; the log says why"
    assert "the disk is on fire" in caplog.text


def test_many_callers_at_once_are_each_seen_as_who_they_are(door: str, serve: Callable[..., ServerInfo]) -> None:
    for name in ("demo", "secret"):
        serve(FakeEngine(name, pause_s=0.05))
    found: dict[str, set[int]] = {ADMIN: set(), ONE: set()}

    def work(key: str) -> None:
        for _ in range(5):
            found[key].add(chat(door, key, "secret", stream=True).status)

    threads = [threading.Thread(target=work, args=(key,)) for key in (ADMIN, ONE) * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {ADMIN: {200}, ONE: {404}}


def test_where_the_front_door_is_is_what_the_client_calls_it() -> None:
    def at(host: str, **headers: str) -> tuple[str, int]:
        sent = [(name.replace("_", "-").encode(), value.encode()) for name, value in {"host": host, **headers}.items()]
        return access.asked_at({"type": "http", "headers": sent, "server": ("10.0.0.1", 9527)})

    assert at("door.example:80") == ("door.example", 80)
    assert at("door.example") == at("door.example", x_forwarded_proto="http") == ("door.example", 80)
    assert at("[::1]:9527") == ("::1", 9527)
    assert at("") == at("[") == at("a:99999") == ("10.0.0.1", 9527)
    assert at("door.example", x_forwarded_proto="https") == ("door.example", 443)
    assert at("door.example", x_forwarded_proto="HTTPS, http") == ("door.example", 443)
    assert at("door.example:8443", x_forwarded_proto="https") == ("door.example", 8443)


def test_who_comes_through_tls_is_told_the_port_of_tls(door: str, serve: Callable[..., ServerInfo]) -> None:
    serve(FakeEngine())
    headers = {**bearer(ONE), "host": "localhost", "x-forwarded-proto": "https"}
    reply = ask(door, "/nameserver/get_services", {"protocol": "chat", "name": "demo"}, headers=headers)
    assert reply.msg["services"] == [{"name": "demo", "host": "localhost", "port": 443, "protocol": "chat"}]
