"""The name server as its clients see it: what is listed, what leaves, and what waits."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from contextlib import ExitStack

import pytest

from callers import OpenFrontDoor, StartEngine, ask, engine_process
from fakes import FakeEngine
from modelengine import AsyncChatClient, AsyncNameServerClient, ChatClient, NameServerClient, ServerInfo, errors
from modelengine_gateway import app
from modelengine_gateway.settings import Settings
from servers import running


@pytest.fixture
def names(front_door: str, stack: ExitStack) -> NameServerClient:
    return stack.enter_context(NameServerClient(front_door))


def nobody() -> ServerInfo:
    """An address that refuses connections."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return ServerInfo("demo", "127.0.0.1", sock.getsockname()[1])


def test_a_registered_engine_is_found_by_its_name(names: NameServerClient, start_engine: StartEngine) -> None:
    info = start_engine(FakeEngine("Qwen/Qwen1.5-0.5B-Chat"))
    assert names.register(info) == {"register": "success", "lease_s": 6.0, "renew_s": 2.0}
    assert names.get_services("chat", "Qwen/Qwen1.5-0.5B-Chat") == [info]
    assert names.get_service_names("chat") == ["Qwen/Qwen1.5-0.5B-Chat"]
    assert names.get_service_names("retriever") == []


def test_registering_twice_lists_once_and_one_deregister_takes_it_off(
    names: NameServerClient, start_engine: StartEngine
) -> None:
    info = start_engine(FakeEngine())
    for _ in range(2):
        names.register(info)
    assert names.get_services("chat", "demo") == [info]
    assert names.deregister(info)
    assert names.get_services("chat", "demo") == []


def test_a_kept_look_up_is_never_older_than_the_membership(names: NameServerClient, start_engine: StartEngine) -> None:
    engines = [start_engine(FakeEngine()) for _ in range(2)]
    for i, info in enumerate(engines):
        names.register(info)
        for _ in range(2):
            assert names.get_services("chat", "demo") == engines[: i + 1]
            assert names.get_service_names("chat") == ["demo"]
    names.deregister(engines[0])
    assert names.get_services("chat", "demo") == engines[1:]


def test_an_unknown_name_has_no_services_and_that_is_no_error(names: NameServerClient) -> None:
    assert names.get_services("chat", "nobody") == []
    assert not names.deregister(nobody())


def test_an_engine_that_does_not_answer_is_not_listed_and_the_error_names_the_address(names: NameServerClient) -> None:
    info = nobody()
    with pytest.raises(errors.Unavailable, match=info.url):
        names.register(info)
    assert names.get_service_names("chat") == []


def test_an_engine_that_is_not_ready_is_not_listed_until_it_is(
    names: NameServerClient, start_engine: StartEngine
) -> None:
    fake = FakeEngine(is_ready=False)
    info = start_engine(fake)
    with pytest.raises(errors.Unavailable):
        names.register(info)
    fake.is_ready = True
    names.register(info)
    assert names.get_services("chat", "demo") == [info]


def test_a_front_door_is_not_listed_as_an_engine(names: NameServerClient, front_door: str) -> None:
    with pytest.raises(errors.Unavailable, match="not listed"):
        names.register(ServerInfo("demo", "127.0.0.1", int(front_door.split(":")[1])))


def test_renewing_a_listed_entry_does_not_ask_the_engine(names: NameServerClient, start_engine: StartEngine) -> None:
    fake = FakeEngine()
    info = start_engine(fake)
    names.register(info)
    fake.is_ready = False
    names.register(info)
    assert names.get_services("chat", "demo") == [info]


def test_an_entry_lives_for_one_lease_after_its_last_renewal(
    open_front_door: OpenFrontDoor, start_engine: StartEngine
) -> None:
    with NameServerClient(open_front_door(lease_s=0.6)) as names:
        info = start_engine(FakeEngine())
        for _ in range(4):
            names.register(info)
            time.sleep(0.3)
            assert names.get_services("chat", "demo") == [info]
        time.sleep(0.5)
        assert names.get_services("chat", "demo") == []


def test_a_killed_engine_is_unlisted_at_once_when_it_is_reported_and_else_with_its_lease(
    open_front_door: OpenFrontDoor,
) -> None:
    with NameServerClient(open_front_door(lease_s=1.0)) as names:
        killed = []
        for name in ("reported", "silent"):
            with engine_process(name) as (process, info):
                names.register(info)
                process.kill()
                process.wait()
                killed.append(info)
                if name == "reported":
                    assert ask_report(names, info) is False
                    assert names.get_services("chat", name) == []
        assert names.get_services("chat", "silent") == [killed[1]]
        time.sleep(1.2)
        assert names.get_services("chat", "silent") == []


def test_a_report_does_not_unlist_an_engine_that_lives(names: NameServerClient, start_engine: StartEngine) -> None:
    info = start_engine(FakeEngine())
    names.register(info)
    assert ask_report(names, info) is True
    assert names.get_services("chat", "demo") == [info]


def test_a_report_about_somebody_unknown_does_not_list_it(names: NameServerClient, start_engine: StartEngine) -> None:
    assert ask_report(names, start_engine(FakeEngine())) is False


def test_wait_before_the_name_exists_returns_when_it_does(front_door: str, start_engine: StartEngine) -> None:
    info = start_engine(FakeEngine())
    later = threading.Timer(0.5, lambda: ask(front_door, "/nameserver/register", record(info)))
    later.start()
    started = time.monotonic()
    with ChatClient(front_door) as client:
        assert client.wait_service_available("demo", timeout=5) == [info]
    assert 0.4 < time.monotonic() - started < 1.5
    later.join()


def test_wait_for_a_name_that_never_comes_times_out_on_time(front_door: str) -> None:
    started = time.monotonic()
    with ChatClient(front_door) as client, pytest.raises(errors.WaitTimeout):
        client.wait_service_available("never", timeout=0.5)
    assert 0.5 <= time.monotonic() - started < 1.0


def test_waiting_longer_than_a_minute_in_one_call_is_refused_with_the_bound(front_door: str) -> None:
    reply = ask(front_door, "/nameserver/wait", {"protocol": "chat", "name": "x", "timeout_s": 61})
    assert (reply.status, reply.msg) == (400, "timeout_s: must be at most 60, got 61")


def test_wait_times_out_as_504_for_any_http_client(front_door: str) -> None:
    reply = ask(front_door, "/nameserver/wait", {"protocol": "chat", "name": "x", "timeout_s": 0.2})
    assert (reply.status, reply.envelope["code"]) == (504, "wait_timeout")


async def test_the_async_client_waits_and_registers_as_well(front_door: str, start_engine: StartEngine) -> None:
    info = await asyncio.to_thread(start_engine, FakeEngine())
    async with AsyncChatClient(front_door) as client, AsyncNameServerClient(front_door) as names:
        waiting = asyncio.create_task(client.wait_service_available("demo", timeout=5))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        await names.register(info)
        assert await waiting == [info]
        assert await client.get_service_names() == ["demo"]


def test_a_watch_gives_the_list_now_and_again_at_each_change(
    names: NameServerClient, start_engine: StartEngine
) -> None:
    one, two = start_engine(FakeEngine()), start_engine(FakeEngine())
    with names.watch() as watch:
        assert next(watch) == []
        names.register(one)
        assert next(watch) == [one]
        names.register(two)
        assert next(watch) == [one, two]
        names.deregister(one)
        assert next(watch) == [two]


def test_a_watch_is_only_told_what_its_filter_lets_through(names: NameServerClient, start_engine: StartEngine) -> None:
    other, demo = start_engine(FakeEngine("other")), start_engine(FakeEngine("demo"))
    with names.watch("chat", "demo") as watch:
        assert next(watch) == []
        names.register(other)
        names.register(demo)
        assert next(watch) == [demo]


def test_a_renewal_wakes_no_watch(names: NameServerClient, start_engine: StartEngine) -> None:
    info = start_engine(FakeEngine())
    names.register(info)
    with names.watch(timeout_s=0.5) as watch:
        assert next(watch) == [info]
        names.register(info)
        with pytest.raises(errors.StreamBroken, match="silent"):
            next(watch)


def test_a_quiet_watch_repeats_the_list_as_a_sign_of_life(
    names: NameServerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelengine_gateway.directory.KEEP_ALIVE_S", 0.1)
    with names.watch(timeout_s=1) as watch:
        assert [next(watch) for _ in range(3)] == [[], [], []]


def test_an_open_watch_and_wait_do_not_hold_up_the_stop() -> None:
    door = app.create(Settings())
    with ExitStack() as stack:
        server = running(door.app, on_stop=door.directory.close, grace_s=20)
        address = f"127.0.0.1:{server.__enter__()}"
        watch = stack.enter_context(stack.enter_context(NameServerClient(address)).watch())
        assert next(watch) == []
        replies = []
        query = {"protocol": "chat", "name": "x", "timeout_s": 30}
        waiting = threading.Thread(target=lambda: replies.append(ask(address, "/nameserver/wait", query)))
        waiting.start()
        time.sleep(0.2)
        started = time.monotonic()
        server.__exit__(None, None, None)
        assert time.monotonic() - started < 2
        waiting.join()
        with pytest.raises(errors.Unavailable, match="stopping"):
            next(watch)
        assert replies[0].status == 503


def test_a_client_that_waits_survives_a_restart_of_the_name_server(start_engine: StartEngine) -> None:
    """The renewals of engines refill the new one; the old one's farewell is no answer to the wait."""
    info = start_engine(FakeEngine())
    first = app.create(Settings())
    server = running(first.app, on_stop=first.directory.close)
    port = server.__enter__()
    found: list[list[ServerInfo]] = []

    def wait() -> None:
        with ChatClient(f"127.0.0.1:{port}") as client:
            found.append(client.wait_service_available("demo", timeout=10))

    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(0.3)
    server.__exit__(None, None, None)
    second = app.create(Settings())
    with running(second.app, on_stop=second.directory.close, port=port), NameServerClient(f"127.0.0.1:{port}") as names:
        assert names.get_service_names("chat") == []
        names.register(info)
        waiting.join(5)
        assert found == [[info]]


def test_support_methods_are_sorted_and_an_unknown_method_is_told_them(front_door: str) -> None:
    with NameServerClient(front_door) as names:
        methods = names.support_methods()
    assert methods == sorted(methods)
    assert {"register", "deregister", "get_services", "get_service_names", "info", "support_methods"} <= set(methods)
    reply = ask(front_door, "/nameserver/get_servces", {})
    assert (reply.status, reply.envelope["state"], reply.envelope["code"]) == (404, "error", "not_found")
    assert reply.msg == f"unknown method 'get_servces'; this server supports {', '.join(methods)}"


def test_info_counts_names_and_services(names: NameServerClient, start_engine: StartEngine) -> None:
    for fake in (FakeEngine("a"), FakeEngine("a"), FakeEngine("b")):
        names.register(start_engine(fake))
    info = names.info()
    assert (info["name"], info["kind"]) == ("ModelEngine name server", "in memory")
    assert (info["names"], info["services"]) == (2, 3)
    assert info["uptime_s"] >= 0


@pytest.mark.parametrize(
    ("method", "body", "sentence"),
    [
        ("register", {"name": "x", "host": "h"}, "port: is required"),
        ("register", {"name": "x", "host": "h", "port": "9"}, 'port: must be a whole number, got "9"'),
        ("register", {"name": "x", "host": "h", "port": 70000}, "port: must be at most 65535, got 70000"),
        ("get_services", {"protocol": "chat"}, "name: is required"),
        ("get_services", None, "protocol: is required"),
        ("get_service_names", {"protocol": "chat", "nam": 1}, "nam: unknown; known are protocol"),
        ("watch", {"name": 5}, "name: must be a string, got 5"),
    ],
)
def test_a_bad_query_is_told_its_field(front_door: str, method: str, body: object, sentence: str) -> None:
    reply = ask(front_door, f"/nameserver/{method}", body)
    assert (reply.status, reply.msg) == (400, sentence)


def test_look_ups_are_posted_and_other_http_methods_are_told_so(front_door: str) -> None:
    reply = ask(front_door, "/nameserver/get_services", method="GET")
    assert (reply.status, reply.headers["allow"]) == (405, "POST")
    assert reply.msg == "GET is not allowed on /nameserver/get_services; use POST"


def test_probes_and_curious_people_get_an_answer(front_door: str) -> None:
    for path in ("/health", "/ready"):
        reply = ask(front_door, path, method="GET")
        assert (reply.status, reply.envelope["state"]) == (200, "ok")
    # Ollama's clients look for these words.
    assert ask(front_door, "/", method="GET").body == b"Ollama is running"


def record(info: ServerInfo) -> dict[str, object]:
    return {"name": info.name, "host": info.host, "port": info.port, "protocol": info.protocol}


def ask_report(names: NameServerClient, info: ServerInfo) -> bool:
    address = names.base_url.removeprefix("http://")
    return bool(ask(address, "/nameserver/report", record(info)).msg["listed"])
