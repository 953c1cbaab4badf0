"""The chat through 9527: where it goes, where else it may go, and how it ends when the engine does."""

from __future__ import annotations

import json
import threading
import time

import pytest

from callers import OpenFrontDoor, StartEngine, ask, engine_process, list_at, through, until
from fakes import FakeEngine
from modelengine import ChatClient, NameServerClient, ServerInfo, errors
from modelengine_gateway import proxy
from scripted import scripted

INFERENCE = "/engine/inference"


def chat(name: str = "demo", **changes: object) -> dict[str, object]:
    return {"model": name, "messages": [{"role": "user", "content": "hi"}], **changes}


def listed(front_door: str, name: str = "demo") -> list[ServerInfo]:
    with NameServerClient(front_door) as names:
        return names.get_services("chat", name)


def test_the_model_in_the_body_decides_which_engine_answers(front_door: str, start_engine: StartEngine) -> None:
    fakes = {name: FakeEngine(name, words=[f"I am {name}"]) for name in ("a", "org/b")}
    for fake in fakes.values():
        start_engine(fake, front_door)
    for name in fakes:
        assert ask(front_door, INFERENCE, chat(name, stream=False)).msg["content"] == f"I am {name}"
        assert ask(front_door, "/engine/info", {"model": name}).msg["name"] == name
        methods = ask(front_door, "/engine/support_methods", {"model": name}).msg["support_methods"]
        assert methods == ["inference", "info", "support_methods"]


def test_a_relayed_stream_has_the_very_bytes_of_the_engine(front_door: str, start_engine: StartEngine) -> None:
    info = start_engine(FakeEngine(words=["说", "🙂", "!"]), front_door)
    direct = ask(f"127.0.0.1:{info.port}", INFERENCE, chat())
    relayed = ask(front_door, INFERENCE, chat())
    assert relayed.body == direct.body
    assert relayed.headers["content-type"] == direct.headers["content-type"]


def test_a_relayed_stream_flows_while_the_engine_still_speaks(front_door: str, start_engine: StartEngine) -> None:
    start_engine(FakeEngine(words=["x"] * 5, pause_s=0.2), front_door)
    with ChatClient(front_door) as client:
        started = time.monotonic()
        with through(front_door, client) as stream:
            next(stream)
            assert time.monotonic() - started < 0.6
            assert len(list(stream)) == 5
            assert time.monotonic() - started > 0.9


def test_only_what_was_checked_reaches_an_engine(front_door: str, start_engine: StartEngine) -> None:
    fake = FakeEngine()
    start_engine(fake, front_door)
    assert ask(front_door, INFERENCE, chat(options={"temperature": 9})).status == 400
    assert fake.requests == []
    ask(front_door, INFERENCE, chat(options={"stop": ["a"], "seed": 3}, tools=None))
    assert fake.requests[0].options.stop == ("a",)
    assert fake.requests[0].options.seed == 3


def test_a_whole_number_of_any_length_is_passed_on(front_door: str, start_engine: StartEngine) -> None:
    fake = FakeEngine()
    start_engine(fake, front_door)
    assert ask(front_door, INFERENCE, chat(options={"max_new_tokens": 10**23, "top_k": 10**23})).status == 200
    assert fake.requests[0].options.max_new_tokens == 10**23


def test_an_unknown_model_is_a_404_with_the_near_name(front_door: str, start_engine: StartEngine) -> None:
    start_engine(FakeEngine("qwen-chat"), front_door)
    reply = ask(front_door, INFERENCE, chat("qwen-chta"))
    assert (reply.status, reply.envelope["code"]) == (404, "not_found")
    assert reply.msg == "no model 'qwen-chta'; did you mean 'qwen-chat'? (known: qwen-chat)"


def test_info_without_a_model_is_told_that_the_front_door_has_many(front_door: str) -> None:
    reply = ask(front_door, "/engine/info")
    assert (reply.status, reply.msg) == (400, "model: is required; the front door serves every name")


def test_requests_for_one_conversation_go_where_it_was_until_that_replica_has_too_many(
    front_door: str, start_engine: StartEngine
) -> None:
    fakes = [FakeEngine(pause_s=0.3) for _ in range(3)]
    for fake in fakes:
        start_engine(fake, front_door)
    assert ask(front_door, INFERENCE, chat()).status == 200
    home = next(fake for fake in fakes if fake.requests)
    threads = [threading.Thread(target=ask, args=(front_door, INFERENCE, chat())) for _ in range(12)]
    for thread in threads:
        thread.start()
        time.sleep(0.05)
    for thread in threads:
        thread.join()
    others = [len(fake.requests) for fake in fakes if fake is not home]
    assert len(home.requests) + sum(others) == 13
    assert min(others) >= 2, "two more than the mean are too many"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("refusal", [errors.Busy("full"), errors.Unavailable("stopping")])
def test_a_replica_that_refuses_is_passed_over(
    front_door: str, start_engine: StartEngine, stream: bool, refusal: errors.ModelEngineError
) -> None:
    start_engine(FakeEngine(refusal=refusal), front_door)
    start_engine(FakeEngine(), front_door)
    assert [ask(front_door, INFERENCE, chat(stream=stream)).status for _ in range(6)] == [200] * 6


def test_when_every_replica_is_full_the_client_hears_when_to_come_again(
    front_door: str, start_engine: StartEngine
) -> None:
    for _ in range(2):
        start_engine(FakeEngine(refusal=errors.Busy("full", retry_after_s=3)), front_door)
    reply = ask(front_door, INFERENCE, chat())
    assert (reply.status, reply.msg, reply.headers["retry-after"]) == (429, "full", "3")


def test_what_an_engine_refuses_for_good_is_not_tried_elsewhere(front_door: str, start_engine: StartEngine) -> None:
    fakes = [FakeEngine(refusal=errors.InvalidRequest("the prompt is too long")) for _ in range(2)]
    for fake in fakes:
        start_engine(fake, front_door)
    reply = ask(front_door, INFERENCE, chat())
    assert (reply.status, reply.envelope["code"], reply.msg) == (400, "invalid_request", "the prompt is too long")
    assert sum(len(fake.requests) for fake in fakes) == 1


def test_a_killed_replica_costs_no_request_and_is_unlisted_by_the_first(
    front_door: str, start_engine: StartEngine
) -> None:
    with engine_process("demo") as (process, info):
        list_at(info, front_door)
        alive = start_engine(FakeEngine(), front_door)
        process.kill()
        process.wait()
        assert [ask(front_door, INFERENCE, chat()).status for _ in range(8)] == [200] * 8
        assert until(lambda: listed(front_door) == [alive], 2.0)


def test_when_nobody_is_left_the_model_is_unavailable_and_then_unknown(front_door: str) -> None:
    # Whose connection for reports breaks, is found dead before anybody asks.
    with engine_process("demo", reports_load=False) as (process, info):
        list_at(info, front_door)
        process.kill()
        process.wait()
        reply = ask(front_door, INFERENCE, chat())
        assert (reply.status, reply.msg) == (503, "none of the 1 replica(s) of 'demo' answers")
        assert until(lambda: listed(front_door) == [], 2.0)
        assert ask(front_door, INFERENCE, chat()).status == 404


def test_an_engine_killed_in_the_middle_ends_the_stream_with_an_error_line(front_door: str) -> None:
    with engine_process("demo", break_after=3, break_by="kill", pause_s=0.05) as (_, info):
        list_at(info, front_door)
        reply = ask(front_door, INFERENCE, chat())
        lines = [json.loads(line) for line in reply.body.splitlines()]
        assert [line["state"] for line in lines] == ["ok"] * 3 + ["error"]
        assert lines[-1]["code"] == "stream_broken"
        assert until(lambda: listed(front_door) == [], 2.0)


def test_an_engine_that_ends_without_its_final_part_is_a_broken_stream(
    front_door: str, start_engine: StartEngine
) -> None:
    info = start_engine(FakeEngine(break_after=2, break_by="end"), front_door)
    lines = [json.loads(line) for line in ask(front_door, INFERENCE, chat()).body.splitlines()]
    assert (len(lines), lines[-1]["code"]) == (3, "stream_broken")
    time.sleep(0.2)
    assert listed(front_door) == [info], "it still answers, so a report must not unlist it"


def test_an_engines_own_error_line_is_passed_on_and_nothing_added(front_door: str, start_engine: StartEngine) -> None:
    start_engine(FakeEngine(break_after=2, break_by="raise"), front_door)
    lines = [json.loads(line) for line in ask(front_door, INFERENCE, chat()).body.splitlines()]
    assert [line.get("code") for line in lines] == [None, None, "request_failed"]


def test_a_client_that_leaves_aborts_the_request_on_the_engine_within_a_second(
    front_door: str, start_engine: StartEngine
) -> None:
    fake = FakeEngine(words=["x"] * 1000, pause_s=0.05)
    start_engine(fake, front_door)
    with ChatClient(front_door) as client:
        stream = through(front_door, client)
        next(stream)
        assert fake.open_streams == 1
        stream.close()
        assert until(lambda: fake.open_streams == 0, 1.0)
    assert fake.aborted == 1


CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        CHUNKED,
        CHUNKED + b"0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nnginx",
        b'HTTP/1.1 500 X\r\nContent-Length: 23\r\n\r\n{"state":"ok","msg":{}}',
        b"SSH-2.0-OpenSSH\r\n",
    ],
)
def test_whoever_says_nothing_of_an_answer_is_passed_over(
    front_door: str, start_engine: StartEngine, answer: bytes
) -> None:
    with scripted(answer) as info:
        list_at(info, front_door)
        assert ask(front_door, INFERENCE, chat()).status == 503
        start_engine(FakeEngine(), front_door)
        assert [ask(front_door, INFERENCE, chat()).status for _ in range(4)] == [200] * 4


@pytest.mark.parametrize(
    "answer",
    [
        CHUNKED + b'18\r\n{"state":"ok","msg":{"do',
        CHUNKED + b'1b\r\n{"state":"ok","msg":1}\n{"st\r\n0\r\n\r\n',
    ],
)
def test_half_a_line_is_never_passed_on(front_door: str, answer: bytes) -> None:
    with scripted(answer) as info:
        list_at(info, front_door)
        reply = ask(front_door, INFERENCE, chat())
    *whole, last = [json.loads(line) for line in reply.body.splitlines()]
    assert last["code"] == "stream_broken"
    assert all(line["state"] == "ok" for line in whole)


def test_a_whole_answer_that_breaks_off_is_a_502(front_door: str) -> None:
    with scripted(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"state"') as info:
        list_at(info, front_door)
        reply = ask(front_door, INFERENCE, chat(stream=False))
    assert (reply.status, reply.envelope["code"]) == (502, "stream_broken")


@pytest.mark.parametrize(("stream", "deadline"), [(True, "first_byte_s"), (False, "answer_s")])
def test_an_engine_that_falls_silent_is_given_up(
    open_front_door: OpenFrontDoor, start_engine: StartEngine, stream: bool, deadline: str
) -> None:
    front_door = open_front_door(**{deadline: 0.3})
    start_engine(FakeEngine(pause_s=5), front_door)
    reply = ask(front_door, INFERENCE, chat(stream=stream))
    assert (reply.status, reply.envelope["code"]) == (504, "wait_timeout")


@pytest.mark.parametrize(
    ("lines", "is_final"),
    [
        (b'{"state":"ok","msg":{"done":true}}', True),
        (b'{"state":"ok","msg":{"done":false}}\n{"state":"ok","msg":{"done":true}}', True),
        (b'{"state":"error","msg":"x"}', True),
        (b'{"state":"ok","msg":{"content":"\\"done\\":true","done":false}}', False),
        (b"", False),
        (b"[]", False),
        (b"5", False),
        (b'{"state":"ok","msg":5}', False),
    ],
)
def test_only_a_final_part_or_an_error_ends_an_answer(lines: bytes, is_final: bool) -> None:
    assert proxy.is_final(lines) is is_final
