"""Through real front doors to engines without a model: loads that are reported, waiting in line, retries, deadlines."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest

from callers import OpenFrontDoor, Reply, StartEngine, ask, list_at, until
from fakes import FakeEngine
from modelengine import NameServerClient, ServerInfo, errors, wire
from modelengine.registry import Registry
from modelengine_api import calls, load_reports
from modelengine_gateway import dispatch, upstream
from modelengine_gateway.directory import background
from modelengine_gateway.leases import Leases
from modelengine_gateway.loads import Loads
from modelengine_gateway.outliers import FAILURES_IN_A_ROW, Outliers
from modelengine_gateway.proxy import ABOUT_ITSELF
from modelengine_gateway.upstream import Upstream
from scripted import IS_PROBE, READY, listening

INFERENCE = "/engine/inference"
LONG_LEASE_S = 600.0


def chat(said: str = "hi", **changes: object) -> dict[str, object]:
    return {"model": "demo", "messages": [{"role": "user", "content": said}], **changes}


@contextmanager
def asking(front_door: str, *said: str) -> Iterator[list[Future[Reply]]]:
    """Chats that are open at once."""
    with ThreadPoolExecutor(len(said)) as pool:
        yield [pool.submit(ask, front_door, INFERENCE, chat(words)) for words in said]


def test_an_engine_s_load_is_told_at_once_when_it_changes_and_as_a_sign_of_life(
    front_door: str, start_engine: StartEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_reports, "KEEP_ALIVE_S", 0.3)
    fake = FakeEngine(words=["x"] * 6, pause_s=0.1)
    info = start_engine(fake, front_door)
    with socket.create_connection((info.host, info.port), timeout=5) as sock, asking(front_door, "hi"):
        sock.sendall(b"GET /load HTTP/1.1\r\nhost: localhost\r\n\r\n")
        told, lines = b"", []
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and [line["msg"]["running"] for line in lines][-2:] != [0, 0]:
            told += sock.recv(65536)
            lines = [json.loads(line) for line in told.split(b"\r\n") if line.startswith(b"{")]
        running = [line["msg"]["running"] for line in lines]
    assert {0, 1} == set(running)
    assert running.count(1) >= 2, "told again though nothing changed"


def test_front_doors_agree_who_is_busy_because_replicas_say_it(
    open_front_door: OpenFrontDoor, start_engine: StartEngine
) -> None:
    doors = [open_front_door(lease_s=LONG_LEASE_S) for _ in range(2)]
    fakes = [FakeEngine(words=["x"] * 50, pause_s=0.1) for _ in range(2)]
    list_at(start_engine(fakes[0]), doors[0])
    with asking(doors[0], *(f"a{i}" for i in range(16))):
        assert until(lambda: fakes[0].open_streams == 16, 5.0)
        list_at(ServerInfo("demo", "127.0.0.1", _port(doors[0])), doors[1])
        list_at(start_engine(fakes[1]), doors[1])
        time.sleep(0.3)
        with asking(doors[1], *(f"b{i}" for i in range(10))):
            assert until(lambda: fakes[1].open_streams == 10, 5.0), "the second door knew nothing of the first one's"


def _port(front_door: str) -> int:
    with NameServerClient(front_door) as names:
        return names.get_services("chat", "demo")[0].port


def test_an_older_engine_that_reports_nothing_is_balanced_by_what_the_front_door_opened(
    open_front_door: OpenFrontDoor, start_engine: StartEngine
) -> None:
    door = open_front_door(lease_s=LONG_LEASE_S)
    fakes = [FakeEngine(words=["x"] * 20, pause_s=0.1, reports_load=False) for _ in range(2)]
    for fake in fakes:
        list_at(start_engine(fake), door)
    with asking(door, *(f"{i}" for i in range(16))):
        assert until(lambda: sum(fake.open_streams for fake in fakes) == 16, 5.0)
        assert all(6 <= fake.open_streams <= 10 for fake in fakes)


def test_where_every_replica_is_full_requests_wait_in_line_and_all_are_answered(
    open_front_door: OpenFrontDoor, start_engine: StartEngine
) -> None:
    door = open_front_door(lease_s=LONG_LEASE_S, queue_s=20.0)
    fakes = [FakeEngine(places=1, pause_s=0.02) for _ in range(2)]
    for fake in fakes:
        list_at(start_engine(fake), door)
    with asking(door, *(f"{i}" for i in range(12))) as replies:
        assert [reply.result().status for reply in replies] == [200] * 12


def test_who_waited_too_long_or_finds_the_line_full_hears_when_to_come_again(
    open_front_door: OpenFrontDoor, start_engine: StartEngine
) -> None:
    door = open_front_door(lease_s=LONG_LEASE_S, queue_s=1.0, queue_length=1)
    list_at(start_engine(FakeEngine(refusal=errors.Busy("full"))), door)
    with asking(door, "a", "b", "c") as replies:
        answers = [reply.result() for reply in replies]
    assert [(reply.status, reply.headers["retry-after"]) for reply in answers] == [(429, "1")] * 3


def test_a_name_whose_replicas_are_all_stopping_is_waited_for(
    open_front_door: OpenFrontDoor, start_engine: StartEngine
) -> None:
    door = open_front_door(lease_s=LONG_LEASE_S, queue_s=10.0)
    old = FakeEngine(refusal=errors.Unavailable("stopping"))
    list_at(start_engine(old), door)
    with asking(door, "hi") as replies:
        assert until(lambda: len(old.requests) >= 1, 5.0)
        list_at(start_engine(FakeEngine()), door)
        assert replies[0].result().status == 200


def test_who_was_taken_from_the_line_keeps_nobody_waiting_however_long_its_answer(
    open_front_door: OpenFrontDoor, start_engine: StartEngine
) -> None:
    door = open_front_door(lease_s=LONG_LEASE_S, queue_s=5.0, queue_length=2)
    fake = FakeEngine(refusal=errors.Busy("full"), words=["x"] * 20, pause_s=0.15)
    list_at(start_engine(fake), door)
    with ThreadPoolExecutor(8) as pool:
        replies = [pool.submit(ask, door, INFERENCE, chat(stream=False))]
        assert until(lambda: len(fake.requests) == 1, 5.0)
        assert ask(door, "/engine/info", {"model": "demo"}).status == 200
        fake.refusal = None
        assert until(lambda: len(fake.requests) == 2, 5.0)
        time.sleep(3 * dispatch.CALL_EVERY_S)
        replies += [pool.submit(ask, door, INFERENCE, chat(str(i), stream=False)) for i in range(4)]
        assert [reply.result().status for reply in replies] == [200] * 5


def test_a_client_that_leaves_the_line_frees_its_place(
    open_front_door: OpenFrontDoor, start_engine: StartEngine
) -> None:
    door = open_front_door(lease_s=LONG_LEASE_S, queue_s=30.0, queue_length=1)
    fake = FakeEngine(refusal=errors.Busy("full"))
    list_at(start_engine(fake), door)
    body = json.dumps(chat()).encode()
    with socket.create_connection(("127.0.0.1", int(door.rpartition(":")[2]))) as sock:
        sock.sendall(
            b"POST %s HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n%s"
            % (INFERENCE.encode(), len(body), body)
        )
        assert until(lambda: len(fake.requests) >= 2, 5.0), "it is called again and again"
    fake.refusal = None
    assert ask(door, INFERENCE, chat()).status == 200


def test_where_half_the_replicas_refuse_retries_stay_within_their_budget(
    open_front_door: OpenFrontDoor, start_engine: StartEngine
) -> None:
    door = open_front_door(lease_s=LONG_LEASE_S)
    fakes = [FakeEngine(refusal=errors.Unavailable("stopping") if i % 2 else None) for i in range(8)]
    for fake in fakes:
        list_at(start_engine(fake), door)
    statuses: list[int] = []

    def client(number: int) -> None:
        statuses.extend(ask(door, INFERENCE, chat(f"{number} {i}")).status for i in range(10))

    threads = [threading.Thread(target=client, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(statuses) <= {200, 503}
    assert sum(len(fake.requests) for fake in fakes) <= 1.4 * len(statuses)


def test_a_replica_that_fails_request_after_request_is_not_asked_for_a_while(
    open_front_door: OpenFrontDoor, start_engine: StartEngine
) -> None:
    door = open_front_door(lease_s=LONG_LEASE_S)
    bad, good = FakeEngine(refusal=errors.RequestFailed("out of memory")), FakeEngine()
    for fake in (bad, good):
        list_at(start_engine(fake), door)
    statuses = [ask(door, INFERENCE, chat(f"{i}")).status for i in range(40)]
    assert len(bad.requests) == 5
    assert statuses.count(500) == 5
    assert statuses[-20:] == [200] * 20


def test_a_replica_whose_streams_end_with_a_fault_of_its_own_is_not_asked_for_a_while(
    open_front_door: OpenFrontDoor, start_engine: StartEngine
) -> None:
    door = open_front_door(lease_s=LONG_LEASE_S)
    bad, good = FakeEngine(break_after=2), FakeEngine()
    for fake in (bad, good):
        list_at(start_engine(fake), door)
    ends = [ask(door, INFERENCE, chat(f"{i}")).lines[-1]["state"] for i in range(40)]
    assert len(bad.requests) == 5
    assert (ends.count("error"), ends[-20:]) == (5, ["ok"] * 20)


def test_retries_that_led_to_an_answer_are_no_retries_any_more(
    open_front_door: OpenFrontDoor, start_engine: StartEngine
) -> None:
    door = open_front_door(lease_s=LONG_LEASE_S)
    full, free = FakeEngine(refusal=errors.Busy("full")), FakeEngine(words=["x"] * 200, pause_s=0.1)
    for fake in (full, free):
        list_at(start_engine(fake), door)
    with ExitStack() as open_streams:
        for number in range(10):
            status, first = begun(open_streams, door, chat(f"{number}"))
            assert (status, first["msg"]["content"]) == (200, "x")
    assert len(full.requests) > 3


def begun(stack: ExitStack, door: str, body: dict[str, Any]) -> tuple[int, Any]:
    """Status and first part of a stream that stays open until the stack ends."""
    host, port = door.split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    stack.callback(connection.close)
    connection.request("POST", INFERENCE, json.dumps(body), {"content-type": "application/json"})
    response = connection.getresponse()
    stack.callback(response.close)
    return response.status, json.loads(response.readline())


def test_a_whole_answer_may_take_as_long_as_an_answer_may(
    open_front_door: OpenFrontDoor, start_engine: StartEngine
) -> None:
    door = open_front_door(lease_s=LONG_LEASE_S, first_byte_s=0.2, answer_s=1.5)
    fake = FakeEngine(words=["x"] * 8, pause_s=0.1)
    list_at(start_engine(fake), door)
    assert ask(door, INFERENCE, chat(stream=False)).status == 200
    fake.pause_s = 1.0
    reply = ask(door, INFERENCE, chat(stream=False))
    assert (reply.status, reply.msg) == (
        504,
        "the engine took the request, but took longer than an answer may before it answered",
    )
    assert ask(door, INFERENCE, chat()).msg == "the engine took the request, but fell silent before it answered"


def test_neither_a_line_nor_a_whole_answer_without_an_end_is_kept(
    open_front_door: OpenFrontDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "MAX_LINE_BYTES", 100_000)
    monkeypatch.setattr(upstream, "MAX_ANSWER_BYTES", 100_000)
    door = open_front_door(lease_s=LONG_LEASE_S)

    def endless(sock: socket.socket) -> None:
        with suppress(OSError):
            if not sock.recv(65536).startswith(b"POST"):
                sock.sendall(READY)
                return
            sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            while True:
                sock.sendall(b"400\r\n%s\r\n" % (b"x" * 1024))

    with listening(endless) as info:
        list_at(info, door)
        reply = ask(door, INFERENCE, chat(stream=False))
        assert (reply.status, reply.msg) == (502, "the engine's answer is over 100000 bytes")
        list_at(info, door)
        assert ask(door, INFERENCE, chat()).lines[-1]["msg"] == "the engine's line is over 100000 bytes"


async def test_what_outlives_a_request_does_not_carry_its_id() -> None:
    async def work() -> str:
        return calls.request_id()

    calls.begin([(b"x-request-id", b"an-id")], None)
    assert (await work(), await background(work())) == ("an-id", "")


async def test_of_an_engine_that_is_gone_neither_connections_nor_failures_are_kept(start_engine: StartEngine) -> None:
    info = start_engine(FakeEngine())
    other = ServerInfo("demo", "127.0.0.1", 9)
    async with Upstream() as client:
        with await client.open(info, "/engine/info", b"{}", ABOUT_ITSELF) as answer:
            await answer.read()
        assert list(client._idle) == [info]
        client.forget(info)
        assert not client._idle
        outliers = Outliers()
        directory = Leases(Registry(LONG_LEASE_S), client.is_ready)
        asking = dispatch.Dispatch(directory, client, Loads(), outliers, dispatch.Waiting(0, 0))
        for _ in range(FAILURES_IN_A_ROW):
            asking.failed(info)
        assert outliers.admitted([info, other], asyncio.get_running_loop().time()) == [info, other]


def test_an_engine_that_falls_silent_within_an_answer_ends_it_at_its_deadline(
    open_front_door: OpenFrontDoor, start_engine: StartEngine
) -> None:
    door = open_front_door(lease_s=LONG_LEASE_S, first_byte_s=5.0, between_bytes_s=0.4)
    with _stalling() as info:
        list_at(info, door)
        began = time.monotonic()
        lines = ask(door, INFERENCE, chat()).lines
        assert time.monotonic() - began < 2.0
    assert [line["state"] for line in lines] == ["ok", "error"]
    assert (lines[-1]["code"], lines[-1]["msg"]) == ("stream_broken", "the engine fell silent; the answer is not whole")


@contextmanager
def _stalling() -> Iterator[ServerInfo]:
    """Is ready, begins every answer, and never goes on."""
    line = b'{"state":"ok","msg":{"content":"x"}}\n'
    begun = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(line), line)

    def converse(sock: socket.socket) -> None:
        if not sock.recv(65536).startswith(b"POST"):
            sock.sendall(READY)
            return
        with suppress(ConnectionResetError):
            sock.sendall(begun)
            # Until the front door has given it up.
            while sock.recv(65536):
                pass

    with listening(converse) as info:
        yield info


def test_an_answer_without_an_end_ends_at_its_deadline(
    open_front_door: OpenFrontDoor, start_engine: StartEngine
) -> None:
    door = open_front_door(lease_s=LONG_LEASE_S, answer_s=0.6)
    fake = FakeEngine(words=["x"] * 1000, pause_s=0.1)
    list_at(start_engine(fake), door)
    lines = ask(door, INFERENCE, chat()).lines
    assert lines[-1]["msg"] == "the engine took longer than an answer may; the answer is not whole"
    assert until(lambda: fake.aborted == 1)


def test_a_connection_serves_the_next_request_and_one_that_was_closed_meanwhile_costs_none(
    open_front_door: OpenFrontDoor,
) -> None:
    door = open_front_door(lease_s=LONG_LEASE_S)
    with _counting() as (info, served):
        list_at(info, door)
        for _ in range(6):
            assert ask(door, INFERENCE, chat(stream=False)).status == 200
    # Each connection is closed after its third answer: just when the next request may be on it.
    assert [count for count in served if count] == [3, 3]


@contextmanager
def _counting() -> Iterator[tuple[ServerInfo, list[int]]]:
    """Answers chats, closes a connection at the fourth request on it, unanswered; tells how many each had."""
    served: list[int] = []
    body = b'{"state":"ok","msg":{"content":"x"}}'
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)

    def converse(sock: socket.socket) -> None:
        number = len(served)
        served.append(0)
        while data := sock.recv(65536):
            if data.startswith(b"GET"):
                sock.sendall(READY)
                return
            if served[number] == 3:
                return
            served[number] += 1
            sock.sendall(answer)

    with listening(converse) as info:
        yield info, served


def test_a_request_on_which_connections_break_is_asked_of_two_replicas_and_no_more(
    open_front_door: OpenFrontDoor,
) -> None:
    door = open_front_door(lease_s=LONG_LEASE_S, queue_s=1.0)
    with ExitStack() as stack:
        breaking = [stack.enter_context(_breaking()) for _ in range(3)]
        for info, _ in breaking:
            list_at(info, door)
        reply = ask(door, INFERENCE, chat())
        assert (reply.status, reply.envelope["code"]) == (502, "stream_broken")
        assert sorted(len(taken) for _, taken in breaking) == [0, 1, 1]


@contextmanager
def _breaking() -> Iterator[tuple[ServerInfo, list[bytes]]]:
    """Is ready, reads a chat to its end, and closes; tells what it read."""
    taken: list[bytes] = []

    def converse(sock: socket.socket) -> None:
        data = sock.recv(65536)
        if data.startswith(IS_PROBE):
            sock.sendall(READY)
        elif data.startswith(b"POST"):
            taken.append(data)

    with listening(converse) as info:
        yield info, taken
