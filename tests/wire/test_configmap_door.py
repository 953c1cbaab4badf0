"""The front door over ConfigMaps against an API server that breaks in every way: what is known keeps being served, and
what was missed is seen once it heals."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from callers import Reply, StartEngine, ask, engine_process, until
from fake_api_server import FakeApiServer
from fakes import FakeEngine
from modelengine import ChatClient, NameServerClient, ServerInfo, errors
from modelengine.registry_configmap import Entry, Service, encode, encode_key
from modelengine_gateway import app, cluster, configmaps
from modelengine_gateway.settings import RegistryKind, Settings
from modelengine_kube import api, reflector
from servers import running

OpenDoor = Callable[..., str]
ONE = ServerInfo("demo", "10.0.0.1", 8000)
TWO = ServerInfo("demo", "10.0.0.2", 8000)


def registry(*infos: ServerInfo, uid: str = "") -> dict[str, str]:
    """A registry in which each of these addresses is a pod; the names in it are those of the addresses."""
    names = sorted({info.name for info in infos})
    services = {name: [info for info in infos if info.name == name] for name in names}
    return encode(
        Entry(name, "chat", "engine", "u", tuple(Service(info, f"{uid}{info.port}-{info.host}", "p") for info in found))
        for name, found in services.items()
    )


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApiServer]:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr(reflector, "FIRST_BACK_OFF_S", 0.05)
    monkeypatch.setattr(reflector, "LAST_BACK_OFF_S", 0.2)
    with FakeApiServer() as server:
        monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig(tmp_path)))
        yield server
        assert server.overreaches == []


@pytest.fixture
def open_door(server: FakeApiServer, stack: ExitStack) -> OpenDoor:
    """Opens a front door over the server's registries; gives its `host:port`."""

    def open_one(*namespaces: str, own: str = "") -> str:
        door = app.create(
            Settings(registry=RegistryKind.CONFIG_MAPS, namespaces=namespaces, own_namespace=own, queue_s=0.0)
        )
        return f"127.0.0.1:{stack.enter_context(running(door.app, on_stop=door.directory.close))}"

    return open_one


@pytest.fixture
def door(open_door: OpenDoor) -> str:
    door = open_door()
    assert until(lambda: is_ready(door), 5)
    return door


def is_ready(door: str) -> bool:
    return ask(door, "/ready", method="GET").status == 200


def listed(door: str, name: str = "demo") -> list[ServerInfo]:
    with NameServerClient(door) as names:
        return names.get_services("chat", name)


def seen(door: str, *infos: ServerInfo, within_s: float = 1.0) -> bool:
    return until(lambda: listed(door) == list(infos), within_s)


def chat(door: str) -> Reply:
    body = {"model": "demo", "messages": [{"role": "user", "content": "hi"}], "stream": False}
    return ask(door, "/engine/inference", body)


def test_a_registry_is_seen_within_a_second_of_each_change(server: FakeApiServer, door: str) -> None:
    for infos in ([ONE], [ONE, TWO], [TWO], []):
        server.write("team", registry(*infos))
        assert seen(door, *infos)
    assert server.lists == 1, "a change was found by a list, not by the watch"


def test_what_is_there_before_the_start_is_listed_when_the_door_is_ready(
    server: FakeApiServer, open_door: OpenDoor
) -> None:
    server.write("team", registry(ONE))
    server.list_status = 503
    door = open_door()
    reply = ask(door, "/ready", method="GET")
    assert (reply.status, reply.envelope["state"]) == (503, "error")
    assert until(lambda: "a fault" in ask(door, "/ready", method="GET").msg)
    assert ask(door, "/health", method="GET").status == 200
    server.list_status = None
    assert until(lambda: is_ready(door))
    assert listed(door) == [ONE]


def test_only_the_namespaces_that_are_given_are_read_and_one_by_one(server: FakeApiServer, open_door: OpenDoor) -> None:
    for i, namespace in enumerate(("one", "two", "three")):
        server.write(namespace, registry(ServerInfo(namespace, f"10.0.0.{i + 1}", 8000)))
    door = open_door("one", "two")
    with NameServerClient(door) as names:
        assert until(lambda: names.get_service_names("chat") == ["one", "two"])
        info = names.info()
    assert (info["kind"], info["namespaces"]) == ("2 namespaces' ConfigMaps", ["one", "two"])
    assert (info["names"], info["services"]) == (2, 2)
    assert 0 <= info["heard_s_ago"] < 5


def test_the_own_namespace_goes_first(server: FakeApiServer, open_door: OpenDoor) -> None:
    server.write("area", registry(ONE))
    server.write("home", registry(TWO))
    assert seen(open_door(own="home"), TWO)
    assert seen(open_door(), ONE)


def test_a_deleted_registry_goes_with_a_delay_and_one_written_anew_never_went(
    server: FakeApiServer, door: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(configmaps, "KEEP_DELETED_S", 0.5)
    server.write("team", registry(ONE))
    assert seen(door, ONE)
    server.delete("team")
    time.sleep(0.3)
    assert listed(door) == [ONE]
    server.write("team", registry(ONE))
    time.sleep(0.5)
    assert listed(door) == [ONE]
    server.delete("team")
    assert seen(door)


def test_garbage_in_a_registry_leaves_what_was_good(server: FakeApiServer, door: str) -> None:
    other = ServerInfo("other", "10.0.0.3", 8000)
    server.write("team", registry(ONE))
    assert seen(door, ONE)
    server.write("team", {encode_key("chat", "demo"): "{", "foreign": "key", **registry(other)})
    assert until(lambda: listed(door, "other") == [other])
    assert listed(door) == [ONE]
    server.write("team", registry(TWO))
    assert seen(door, TWO)


@pytest.mark.parametrize("data", [None, {}, {"x": ""}, {"": "[]"}])
def test_a_registry_of_nothing_stops_nobody(server: FakeApiServer, door: str, data: dict[str, str] | None) -> None:
    server.write("team", data)
    server.write("other", registry(ONE))
    assert seen(door, ONE)
    assert ask(door, "/health", method="GET").status == 200


def test_known_names_are_served_while_the_api_server_is_away_and_changes_are_seen_after(
    server: FakeApiServer, door: str, start_engine: StartEngine
) -> None:
    info = start_engine(FakeEngine(words=["alive"]))
    server.write("team", registry(info))
    assert seen(door, info)
    server.stop()
    for _ in range(5):
        time.sleep(0.1)
        assert chat(door).msg["content"] == "alive"
    assert [ask(door, path, method="GET").status for path in ("/health", "/ready")] == [200, 200]
    server.write("team", registry(info, ONE))
    server.start()
    assert until(lambda: len(listed(door)) == 2, 2)


def test_what_was_deleted_while_nobody_watched_is_no_ghost(server: FakeApiServer, door: str) -> None:
    other = ServerInfo("other", "10.0.0.3", 8000)
    server.write("team", registry(ONE, other))
    assert seen(door, ONE)
    server.stop()
    server.write("team", registry(other))
    server.forget_history()
    server.start()
    assert seen(door, within_s=2)
    assert listed(door, "other") == [other]


def test_a_watch_that_fell_behind_lists_again(server: FakeApiServer, door: str) -> None:
    server.write("team", registry(ONE))
    assert seen(door, ONE)
    lists = server.lists
    server.is_silent = True
    server.write("team", registry(TWO))
    server.is_silent = False
    server.forget_history()
    server.write("team", registry(ONE, TWO))
    assert seen(door, ONE, TWO)
    assert server.lists > lists


def test_a_watch_that_is_cut_is_opened_again(server: FakeApiServer, door: str) -> None:
    for infos in ([ONE], [TWO], [ONE, TWO]):
        server.break_watches()
        server.write("team", registry(*infos))
        assert seen(door, *infos)


def test_a_silent_watch_is_given_up_and_what_it_did_not_tell_is_seen(
    server: FakeApiServer, monkeypatch: pytest.MonkeyPatch, open_door: OpenDoor
) -> None:
    monkeypatch.setattr(api, "WATCH_SILENCE_S", 0.5)
    server.is_silent = True
    door = open_door()
    assert until(lambda: server.watches == 1)
    server.write("team", registry(ONE))
    assert seen(door, ONE, within_s=2)


def test_a_watch_that_lives_but_lies_is_found_out_by_the_next_list(
    server: FakeApiServer, monkeypatch: pytest.MonkeyPatch, open_door: OpenDoor
) -> None:
    monkeypatch.setattr(cluster, "RESYNC_S", 1)
    server.is_silent = True
    door = open_door()
    assert until(lambda: server.watches == 1)
    server.write("team", registry(ONE))
    assert seen(door, ONE, within_s=3)


@pytest.mark.parametrize("status", [401, 403, 404, 410, 429, 500, 503])
@pytest.mark.parametrize("call", ["list", "watch"])
def test_whatever_the_api_server_answers_is_survived_without_a_storm(
    server: FakeApiServer, door: str, call: str, status: int
) -> None:
    server.write("team", registry(ONE))
    assert seen(door, ONE)
    setattr(server, f"{call}_status", status)
    server.break_watches()
    asked = server.lists + server.watches
    time.sleep(1)
    assert server.lists + server.watches - asked < 30
    assert listed(door) == [ONE]
    assert ask(door, "/health", method="GET").status == 200
    server.write("team", registry(TWO))
    setattr(server, f"{call}_status", None)
    assert seen(door, TWO, within_s=2)


@pytest.mark.parametrize("body", [b"", b"<html>no</html>", b"{}", b"[]", b'{"items":null}', b'{"items":[]}'])
def test_a_list_that_is_none_is_not_taken_for_an_empty_one(server: FakeApiServer, door: str, body: bytes) -> None:
    server.write("team", registry(ONE))
    assert seen(door, ONE)
    server.list_body = body
    server.break_watches()
    time.sleep(0.5)
    assert listed(door) == [ONE]
    assert ask(door, "/health", method="GET").status == 200
    server.list_body = None
    server.write("team", registry(TWO))
    assert seen(door, TWO, within_s=2)


@pytest.mark.parametrize("writes_since", [0, 200])
def test_a_cluster_that_was_put_back_to_an_older_state_is_believed(
    server: FakeApiServer, door: str, writes_since: int
) -> None:
    """Also when its versions, counted anew from there, have grown past those that the door knows."""
    server.write("team", registry(ONE))
    server.write("team", registry(TWO))
    assert seen(door, TWO)
    server.stop()
    server.put_back(2)
    server.write("team", registry(ONE))
    for _ in range(writes_since):
        server.write("other", {})
    server.start()
    assert seen(door, ONE, within_s=2)
    server.write("team", registry(ONE, TWO))
    assert seen(door, ONE, TWO)


def test_a_namespace_that_may_not_be_read_keeps_no_other_away(server: FakeApiServer, open_door: OpenDoor) -> None:
    server.write("team", registry(ONE))
    server.forbidden = {"gone"}
    door = open_door("team", "gone")
    assert until(lambda: is_ready(door))
    assert listed(door) == [ONE]
    server.write("gone", registry(ServerInfo("late", "10.0.0.3", 8000)))
    server.forbidden = set()
    assert until(lambda: len(listed(door, "late")) == 1)


def test_when_nothing_may_be_read_the_door_is_not_ready_and_says_what_the_server_said(
    server: FakeApiServer, open_door: OpenDoor
) -> None:
    server.forbidden = {"team"}
    door = open_door("team")
    told = "the registries are not read yet: configmaps is forbidden in the namespace team"
    assert until(lambda: ask(door, "/ready", method="GET").msg == told)
    assert ask(door, "/ready", method="GET").status == 503
    assert ask(door, "/health", method="GET").status == 200


def test_when_nobody_follows_the_registries_any_more_only_a_restart_helps(
    server: FakeApiServer, open_door: OpenDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(self: object) -> None:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(reflector.Reflector, "_follow", broken)
    door = open_door()
    assert until(lambda: ask(door, "/health", method="GET").status == 503)


def test_wait_before_the_name_exists_returns_when_it_does(server: FakeApiServer, door: str) -> None:
    later = threading.Timer(0.5, lambda: server.write("team", registry(ONE)))
    later.start()
    started = time.monotonic()
    with ChatClient(door) as client:
        assert client.wait_service_available("demo", timeout=5) == [ONE]
        with pytest.raises(errors.WaitTimeout):
            client.wait_service_available("never", timeout=0.3)
    assert 0.4 < time.monotonic() - started < 2
    later.join()


def test_a_watch_of_the_name_server_is_told_of_changes(server: FakeApiServer, door: str) -> None:
    with NameServerClient(door) as names, names.watch("chat", "demo") as watch:
        assert next(watch) == []
        for infos in ([ONE], [ONE, TWO], []):
            server.write("team", registry(*infos))
            assert next(watch) == infos


@pytest.mark.parametrize("method", ["register", "deregister"])
@pytest.mark.parametrize("body", [{"name": "demo", "host": "10.0.0.1", "port": 1}, {"name": 5}, None])
def test_names_are_not_entered_by_registering(door: str, method: str, body: dict[str, Any] | None) -> None:
    reply = ask(door, f"/nameserver/{method}", body)
    assert (reply.status, reply.envelope["code"]) == (400, "invalid_request")
    assert "names come from ModelEngine objects" in reply.msg


def test_only_what_is_offered_is_said_to_be_supported(door: str) -> None:
    with NameServerClient(door) as names:
        methods = names.support_methods()
    assert {"get_services", "get_service_names", "wait", "watch", "report", "info", "support_methods"} == set(methods)
    reply = ask(door, "/nameserver/no_such", {})
    assert reply.msg == f"unknown method 'no_such'; this server supports {', '.join(methods)}"
    assert (
        not {"/nameserver/register", "/nameserver/deregister"}
        & ask(door, "/openapi.json", method="GET").envelope["paths"].keys()
    )


def test_a_service_is_told_with_its_four_fields_only(server: FakeApiServer, door: str) -> None:
    server.write("team", registry(ONE))
    assert seen(door, ONE)
    reply = ask(door, "/nameserver/get_services", {"protocol": "chat", "name": "demo"})
    assert reply.msg == {"services": [{"name": "demo", "host": "10.0.0.1", "port": 8000, "protocol": "chat"}]}


def test_a_killed_replica_costs_no_request_and_is_out_at_the_first(
    server: FakeApiServer, door: str, start_engine: StartEngine
) -> None:
    with engine_process("demo") as (process, info):
        alive = start_engine(FakeEngine())
        server.write("team", registry(info, alive))
        assert until(lambda: len(listed(door)) == 2)
        process.kill()
        process.wait()
        assert [chat(door).status for _ in range(8)] == [200] * 8
        assert listed(door) == [alive]


def test_when_all_are_out_the_name_is_still_known_and_is_served_again_when_one_answers(
    server: FakeApiServer, door: str, stack: ExitStack
) -> None:
    with running(FakeEngine().app()) as port:
        info = ServerInfo("demo", "127.0.0.1", port)
        server.write("team", registry(info))
        assert seen(door, info)
    assert (chat(door).status, listed(door)) == (503, [])
    reply = chat(door)
    assert (reply.status, reply.msg, reply.headers["retry-after"]) == (503, "no replica of 'demo' answers now", "1")
    stack.enter_context(running(FakeEngine().app(), port=port))
    assert seen(door, info, within_s=2)
    assert chat(door).status == 200


def test_another_pod_at_the_address_of_a_dead_one_is_listed_at_once(
    server: FakeApiServer, door: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(configmaps, "PROBE_EVERY_S", 60)
    dead = ServerInfo("demo", "127.0.0.1", 9)
    server.write("team", registry(dead))
    assert seen(door, dead)
    assert chat(door).status == 503
    assert listed(door) == []
    server.write("team", registry(dead, uid="new-"))
    assert seen(door, dead)


def test_a_client_s_report_takes_out_the_dead_and_not_the_living(
    server: FakeApiServer, door: str, start_engine: StartEngine
) -> None:
    alive, dead = start_engine(FakeEngine()), ServerInfo("demo", "127.0.0.1", 9)
    server.write("team", registry(alive, dead))
    assert until(lambda: len(listed(door)) == 2)
    for info, is_listed in ((alive, True), (dead, False)):
        record = {"name": info.name, "host": info.host, "port": info.port}
        assert ask(door, "/nameserver/report", record).msg == {"listed": is_listed}
    assert listed(door) == [alive]


def test_a_client_asks_the_door_for_the_name_and_talks_to_the_pod_itself(
    server: FakeApiServer, door: str, start_engine: StartEngine
) -> None:
    server.write("team", registry(start_engine(FakeEngine(words=["direct"]))))
    with ChatClient(door) as client:
        client.wait_service_available("demo", timeout=5)
        assert client.chat("demo", [{"role": "user", "content": "hi"}]).content == "direct"


def test_a_registry_that_names_the_door_itself_sends_nothing_in_a_circle(
    server: FakeApiServer, door: str, start_engine: StartEngine
) -> None:
    itself = ServerInfo("demo", "127.0.0.1", int(door.split(":")[1]))
    server.write("team", registry(itself))
    assert seen(door, itself)
    reply = chat(door)
    assert (reply.status, reply.msg) == (503, "this is a front door, not an engine")
    server.write("team", registry(itself, start_engine(FakeEngine())))
    assert until(lambda: len(listed(door)) == 2)
    assert [chat(door).status for _ in range(8)] == [200] * 8


def start_process(**variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "modelengine_gateway"],
        env={**os.environ, "MODELENGINE_LISTEN_PORT": "0", "MODELENGINE_REGISTRY": "configmaps", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("namespaces", "kind"),
    [("", "all namespaces' ConfigMaps"), ("a", "1 namespace's ConfigMaps"), ("a, b,a", "2 namespaces' ConfigMaps")],
)
def test_the_first_line_says_where_the_names_come_from(server: FakeApiServer, namespaces: str, kind: str) -> None:
    with start_process(MODELENGINE_NAMESPACES=namespaces) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(f"ModelEngineNameServer: {kind}, running! port: ")
        process.terminate()
        assert process.stdout.readline() == "ModelEngineNameServer clean_up!\n"
        assert process.wait(10) == 0


@pytest.mark.parametrize("content", [None, "", "{", "a: [", "clusters: 5"])
def test_without_a_cluster_it_ends_at_its_start_and_says_so(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "kubeconfig"
    if content is not None:
        path.write_text(content)
    with start_process(KUBECONFIG=str(path), KUBERNETES_SERVICE_HOST="") as process:
        output, problems = process.communicate(timeout=20)
    assert (process.returncode, output) == (1, "")
    assert "Traceback" not in problems
    assert problems.splitlines()[-1].startswith("error: no way to a cluster: not in a pod, and no usable kubeconfig (")
