"""An engine over HTTP: a real uvicorn and the real clients around a fake model."""

import asyncio
import dataclasses
import http.client
import json
import random
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from callers import ask, until
from fakes import FakeRunner, fake_model
from modelengine import ServerInfo, errors, flows
from modelengine.chat_request import chat_request
from modelengine.chats import AS_MUCH_AS_FITS
from modelengine.client import Client, Stream
from modelengine.protocol import EngineMethod, to_json
from modelengine_runtime.app import create_app
from modelengine_runtime.engine import Engine
from modelengine_runtime.lifecycle import Lifecycle, warm_up
from modelengine_runtime.scheduler import Limits
from servers import running

LIMITS = Limits(max_running=8, max_waiting=4, step_tokens=64, kv_blocks=6_000)


class DirectClient(Client):
    """Talks to one engine whose address is known: no name server in these tests."""

    def call(self, method, body):
        return self._run(one(flows.Send(f"{self.base_url}/engine/{method}", body)))

    def chat(self, text, stream=False, **options):
        request = chat_request("fake", [{"role": "user", "content": text}], None, options, stream)
        if not stream:
            return self.call(EngineMethod.INFERENCE, to_json(request))
        effect = flows.Open(f"{self.base_url}/engine/{EngineMethod.INFERENCE}", to_json(request))
        return Stream(self._run(one(effect)), flows.ChatParts())

    def load(self):
        return self.call(EngineMethod.INFO, {})["load"]


def one(effect):
    return (yield effect)


@contextmanager
def serving_engine(runner, limits=LIMITS, grace_s=0.5, on_loop=lambda loop: None, in_a_pod=False):
    model = fake_model(runner)
    lifecycle = Lifecycle("fake", lambda: Engine(model, limits), nameserver="", advertise_host="127.0.0.1")
    app = create_app(lifecycle)

    def on_listening(port):
        on_loop(asyncio.get_running_loop())
        lifecycle.begin(port)

    until_idle = lifecycle.drained if in_a_pod else None
    with running(
        app, on_listening=on_listening, on_stop=lifecycle.leave, until_idle=until_idle, grace_s=grace_s
    ) as port:
        deadline = time.monotonic() + 10
        while not lifecycle.is_ready and time.monotonic() < deadline:
            time.sleep(0.01)
        yield port
    lifecycle.close()


@pytest.fixture
def runner():
    return FakeRunner()


@pytest.fixture
def port(runner):
    with serving_engine(runner) as port:
        yield port


@pytest.fixture
def client(port):
    with DirectClient(f"127.0.0.1:{port}") as client:
        yield client


def test_a_whole_answer_has_the_seed_s_fields_and_the_added_ones(client):
    answer = client.chat("hello", max_new_tokens=5)
    assert {key: answer[key] for key in ("model", "prompt_length", "response_length", "finish_reason", "content")} == {
        "model": "fake",
        "prompt_length": 5,
        "response_length": 5,
        "finish_reason": "length",
        "content": "fghij",
    }
    assert (answer["prompt_tokens"], answer["completion_tokens"], answer["total_tokens"]) == (5, 5, 10)
    assert bytes(answer["token_ids"]) == b"fghij"


def test_a_stream_s_parts_grow_and_one_final_part_ends_it(client):
    *parts, last = client.chat("hello", stream=True, max_new_tokens=5)
    assert [part.content for part in parts] == list("fghij")
    assert [part.response_length for part in parts] == [1, 2, 3, 4, 5]
    assert [(part.index, part.token_ids) for part in parts] == [(i, (ord(c),)) for i, c in enumerate("fghij")]
    assert {(part.finish_reason, part.done, part.prompt_length) for part in parts} == {(None, False, 5)}
    assert (last.content, last.done, last.finish_reason, last.response_length) == (None, True, "length", 5)


def test_every_line_of_a_stream_is_an_envelope_with_the_seed_s_six_fields_and_the_transfer_is_chunked(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    body = {"model": "fake", "messages": [{"role": "user", "content": "hi"}], "options": {"max_tokens": 3}}
    connection.request("POST", "/engine/inference", json.dumps(body))
    response = connection.getresponse()
    assert response.version == 11
    assert response.getheader("transfer-encoding") == "chunked"
    assert response.getheader("content-type").startswith("application/x-ndjson")
    lines = [json.loads(line) for line in response.read().splitlines()]
    connection.close()
    seed = {"model", "prompt_length", "response_length", "finish_reason", "content", "done"}
    assert len(lines) == 4
    assert all(line["state"] == "ok" and seed <= set(line["msg"]) for line in lines)


def test_parts_arrive_while_the_rest_is_still_being_made(client, runner):
    runner.pause_s = 0.02
    started = time.monotonic()
    stream = client.chat("hello", stream=True, max_new_tokens=50)
    next(stream)
    first_after_s = time.monotonic() - started
    list(stream)
    assert first_after_s < (time.monotonic() - started) / 4


def test_a_stop_string_ends_the_answer_and_does_not_show(client):
    answer = client.chat("hello", stop=["hi"], max_new_tokens=20)
    assert (answer["content"], answer["finish_reason"]) == ("fg", "stop")


def test_eight_chats_run_together_and_all_are_right(port, runner):
    runner.pause_s = 0.005

    def chat(i):
        with DirectClient(f"127.0.0.1:{port}") as client:
            return "".join(part.content or "" for part in client.chat("x" * (i + 1), stream=True, max_new_tokens=26))

    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(chat, range(8)))
    letters = "abcdefghijklmnopqrstuvwxyz"
    assert texts == [letters[i + 1 :] + letters[: i + 1] for i in range(8)]
    assert max(len(step) for step in runner.steps) == 8


def test_questions_are_answered_at_once_while_answers_are_made(client, runner):
    runner.pause_s = 0.02
    with client.chat("hello", stream=True, max_new_tokens=900) as stream:
        next(stream)
        for method in (EngineMethod.INFO, EngineMethod.SUPPORT_METHODS):
            started = time.monotonic()
            client.call(method, {})
            assert time.monotonic() - started < 1


def test_support_methods_are_sorted_and_an_unknown_method_is_named(client):
    assert client.call(EngineMethod.SUPPORT_METHODS, {})["support_methods"] == ["inference", "info", "support_methods"]
    with pytest.raises(
        errors.NotFound, match=r"unknown method 'sing'.*embed, inference, info, rerank, support_methods"
    ):
        client.call("sing", {})


def test_closing_a_stream_early_aborts_the_request_within_a_second(client, runner):
    runner.pause_s = 0.01
    stream = client.chat("hello", stream=True, max_new_tokens=900)
    next(stream)
    stream.close()
    assert until(lambda: client.load()["running"] == 0)
    assert client.load()["aborted"] == 1
    assert runner.caches == set()


def test_the_load_tells_requests_by_how_they_ended_and_the_cache_in_blocks(client, runner):
    runner.pause_s = 0.01
    stream = client.chat("x" * 40, stream=True, max_new_tokens=500)
    next(stream)
    load = client.load()
    assert (load["running"], load["waiting"], load["blocks_total"]) == (1, 0, LIMITS.kv_blocks)
    assert 3 <= load["blocks_used"] < 40
    stream.close()
    assert until(lambda: client.load()["blocks_used"] == 0)
    client.chat("hello", max_new_tokens=2)
    # One more was answered to warm up.
    assert {name: client.load()[name] for name in ("finished", "aborted", "failed")} == {
        "finished": 2,
        "aborted": 1,
        "failed": 0,
    }


def test_the_load_is_reported_as_it_changes_and_no_longer_once_the_engine_stops(runner):
    runner.pause_s = 0.02
    with (
        ThreadPoolExecutor(1) as pool,
        serving_engine(runner) as port,
        DirectClient(f"127.0.0.1:{port}") as client,
    ):
        report = pool.submit(ask, f"127.0.0.1:{port}", "/load", method="GET")
        time.sleep(0.2)
        client.chat("hello", max_new_tokens=20)
        time.sleep(0.2)
        assert not report.done()
    told = [line["msg"] for line in report.result().lines]
    assert [load["running"] for load in told][:3] == [0, 1, 0]
    assert all(load["waiting"] == 0 and 0 <= load["cache_usage"] <= 1 for load in told)


def test_leaving_before_a_whole_answer_is_ready_aborts_the_request(port, client, runner):
    runner.pause_s = 0.01
    body = {"model": "fake", "stream": False, "messages": [{"role": "user", "content": "hi"}]}
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("POST", "/engine/inference", json.dumps(body))
    assert until(lambda: client.load()["running"] == 1)
    connection.close()
    assert until(lambda: client.load()["running"] == 0)
    assert client.load()["aborted"] == 1


def test_a_request_that_breaks_the_model_fails_alone(client, runner):
    runner.pause_s = 0.005
    stream = client.chat("hello", stream=True, max_new_tokens=60)
    with pytest.raises(errors.RequestFailed, match="the model broke on this prompt"):
        client.chat("boom!")
    assert list(stream)[-1].finish_reason == "length"


def test_a_full_engine_is_busy_and_says_when_to_come_again(runner):
    runner.pause_s = 0.02
    with serving_engine(runner, Limits(1, 0, 64, 6_000)) as port, DirectClient(f"127.0.0.1:{port}") as client:
        stream = client.chat("hello", stream=True, max_new_tokens=500)
        next(stream)
        with pytest.raises(errors.Busy) as busy:
            client.chat("me too", stream=True)
        assert busy.value.retry_after_s == 1.0
        stream.close()


def test_a_prompt_longer_than_the_context_is_refused_with_both_numbers(client):
    with pytest.raises(errors.InvalidRequest, match=r"it has 1200 tokens.*holds 1000"):
        client.chat("x" * 1200)


def test_where_memory_holds_less_than_the_context_an_answer_without_a_limit_gets_what_it_holds():
    limits = dataclasses.replace(LIMITS, kv_blocks=4)
    with serving_engine(FakeRunner(), limits) as port, DirectClient(f"127.0.0.1:{port}") as client:
        assert client.call(EngineMethod.INFO, {})["context_length"] == 64
        answer = client.chat("hello", max_new_tokens=AS_MUCH_AS_FITS)
        assert (answer["response_length"], answer["finish_reason"]) == (59, "length")
        with pytest.raises(errors.InvalidRequest, match=r"it has 64 tokens.*holds 64"):
            client.chat("x" * 64)


def test_messages_that_the_template_refuses_are_the_client_s_mistake(client):
    request = {"model": "fake", "messages": [{"role": "tool", "content": "42"}]}
    with pytest.raises(errors.InvalidRequest, match="messages: the model's chat template refuses them"):
        client.call(EngineMethod.INFERENCE, request)


def test_a_name_that_is_not_this_engine_s_is_unknown(client):
    request = {"model": "fakes", "messages": [{"role": "user", "content": "hi"}]}
    with pytest.raises(errors.NotFound, match="no model 'fakes'; did you mean 'fake'"):
        client.call(EngineMethod.INFERENCE, request)


def test_an_engine_that_is_still_loading_is_alive_but_not_ready():
    def load():
        time.sleep(1)
        raise errors.ModelLoadError("never mind")

    lifecycle = Lifecycle("slow", load, nameserver="", advertise_host="127.0.0.1")
    lifecycle.begin = lambda port: None
    with running(create_app(lifecycle)) as port, DirectClient(f"127.0.0.1:{port}") as client:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("GET", "/ready")
        response = connection.getresponse()
        assert (response.status, json.loads(response.read())["msg"]["stage"]) == (503, "loading")
        connection.request("GET", "/health")
        assert connection.getresponse().status == 200
        loading = ask(f"127.0.0.1:{port}", "/loading", method="GET")
        told = {"state": "ok", "msg": {"stage": "loading", "bytes": None, "total": None}}
        assert (loading.status, loading.envelope) == (200, told)
        with pytest.raises(errors.Unavailable, match="'slow' is loading"):
            client.call(EngineMethod.INFO, {})
        connection.close()


def test_an_engine_whose_template_breaks_says_so_and_does_not_stay_half_made(runner):
    def broken(*_, **__):
        raise AttributeError("a foreign mistake")

    model = dataclasses.replace(fake_model(runner), tokenizer=SimpleNamespace(apply_chat_template=broken))
    engine = Engine(model, Limits(max_running=1, max_waiting=1, step_tokens=8, kv_blocks=100))
    with pytest.raises(errors.ModelLoadError, match="'fake' is loaded but can't answer: a foreign mistake"):
        asyncio.run(warm_up(engine, "fake"))
    engine.stop()


def test_messages_that_make_no_prompt_at_all_are_refused(client):
    with pytest.raises(errors.InvalidRequest, match="messages: the model's chat template makes nothing of them"):
        client.chat("")


def test_stopping_lets_a_running_answer_finish_within_the_grace(runner):
    runner.pause_s = 0.01
    with serving_engine(runner, grace_s=10) as port:
        client = DirectClient(f"127.0.0.1:{port}")
        stream = client.chat("hello", stream=True, max_new_tokens=60)
        next(stream)
    with client:
        assert list(stream)[-1].response_length == 60


def test_an_answer_that_outlasts_the_grace_ends_with_an_error_not_silently(runner):
    runner.pause_s = 0.02
    with serving_engine(runner, grace_s=0.2) as port:
        client = DirectClient(f"127.0.0.1:{port}")
        stream = client.chat("hello", stream=True, max_new_tokens=900)
        next(stream)
    with client, pytest.raises(errors.Unavailable, match="stopping"):
        list(stream)


def test_a_pod_that_stops_refuses_with_a_503_while_its_open_answers_finish(runner):
    """Nobody else is told at once that a pod stops: whoever still comes has to hear it from the pod."""
    runner.pause_s = 0.01
    seen = []

    def come_again(address, client):
        while ask(address, "/ready", method="GET").status == 200:
            time.sleep(0.01)
        # Longer than the server takes to close its door, where it does that.
        time.sleep(0.5)
        seen.append(ask(address, "/ready", method="GET").msg["stage"])
        seen.append(ask(address, "/loading", method="GET").msg["stage"])
        seen.append(ask(address, "/health", method="GET").status)
        body = {"model": "fake", "messages": [{"role": "user", "content": "hi"}]}
        refused = ask(address, "/engine/inference", body)
        seen.append((refused.status, refused.headers["retry-after"], refused.msg))

    with ThreadPoolExecutor(1) as other:
        with serving_engine(runner, grace_s=10, in_a_pod=True) as port:
            client = DirectClient(f"127.0.0.1:{port}")
            stream = client.chat("hello", stream=True, max_new_tokens=200)
            next(stream)
            coming = other.submit(come_again, f"127.0.0.1:{port}", client)
        coming.result()
    with client:
        assert list(stream)[-1].response_length == 200
    assert seen == ["stopping", "stopping", 200, (503, "1", "'fake' is stopping")]


def test_a_pod_with_nothing_to_finish_stops_at_once(runner):
    began = time.monotonic()
    with serving_engine(runner, grace_s=10, in_a_pod=True):
        began = time.monotonic()
    assert time.monotonic() - began < 2


def test_an_answer_of_a_pod_that_outlasts_the_grace_ends_with_an_error(runner):
    runner.pause_s = 0.02
    with serving_engine(runner, grace_s=0.5, in_a_pod=True) as port:
        client = DirectClient(f"127.0.0.1:{port}")
        stream = client.chat("hello", stream=True, max_new_tokens=900)
        next(stream)
    with client, pytest.raises(errors.Unavailable, match="stopping"):
        list(stream)


def test_a_client_that_resets_its_connection_frees_the_place(port, client, runner):
    runner.pause_s = 0.01
    body = json.dumps({"model": "fake", "messages": [{"role": "user", "content": "hi"}]}).encode()
    with socket.create_connection(("127.0.0.1", port)) as raw:
        raw.sendall(b"POST /engine/inference HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
        raw.recv(100)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    assert until(lambda: client.load()["running"] == 0)


def test_service_addresses_of_both_ip_versions_make_urls():
    assert ServerInfo("m", "::1", 80).url == "http://[::1]:80"
    assert ServerInfo("m", "10.0.0.1", 80).url == "http://10.0.0.1:80"


def test_two_hundred_requests_of_which_half_leave_at_random_leave_no_task_place_or_cache(runner):
    runner.pause_s = 0.001
    loops = []
    with serving_engine(runner, on_loop=loops.append) as port, DirectClient(f"127.0.0.1:{port}") as client:
        client.load()
        tasks = len(asyncio.all_tasks(loops[0]))

        def chat(i):
            chance = random.Random(i)
            with DirectClient(f"127.0.0.1:{port}") as own:
                try:
                    stream = own.chat("hello", stream=True, max_new_tokens=40)
                except errors.Busy:
                    return
                for _ in range(chance.randrange(20) if i % 2 else 100):
                    next(stream, None)
                stream.close()

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(chat, range(200)))
        assert until(lambda: client.load()["running"] + client.load()["waiting"] == 0)
        assert until(lambda: len(asyncio.all_tasks(loops[0])) <= tasks)
        assert runner.caches == set()
        assert client.load()["aborted"] > 20
