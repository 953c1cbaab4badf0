"""Vectors and scores over HTTP: real servers and clients around a fake model, straight and through a front door."""

import http.client
import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from callers import ask, until
from fake_encoder import FakeEncoder
from fakes import FakeEngine, FakeRunner, fake_model
from modelengine import (
    AsyncEmbedClient,
    AsyncRerankClient,
    ChatClient,
    EmbedClient,
    NameServerClient,
    RerankClient,
    errors,
    wire,
)
from modelengine.protocol import EMBED, RERANK, ServerInfo
from modelengine_runtime.engine import Engine
from modelengine_runtime.scheduler import Limits
from wire_encoders import serving, serving_encoder


@pytest.fixture
def fake():
    return FakeEncoder()


@pytest.fixture
def engine(fake):
    with serving_encoder(fake) as port:
        yield f"127.0.0.1:{port}"


@pytest.fixture
def reranker():
    with serving_encoder(FakeEncoder(RERANK), name="ranks") as port:
        yield f"127.0.0.1:{port}"


@pytest.fixture
def chat_engine():
    limits = Limits(max_running=8, max_waiting=4, step_tokens=64, kv_blocks=6_000)
    with serving(lambda: Engine(fake_model(FakeRunner()), limits), "chat", "chatty") as port:
        yield f"127.0.0.1:{port}"


@pytest.fixture
def front_door(open_front_door, engine, reranker, chat_engine):
    """With one model of each protocol."""
    door = open_front_door(lease_s=10)
    models = (("fake", engine, EMBED), ("ranks", reranker, RERANK), ("chatty", chat_engine, "chat"))
    with NameServerClient(door) as names:
        for name, address, protocol in models:
            names.register(ServerInfo(name, "127.0.0.1", int(address.split(":")[1]), protocol))
    return door


def embed(address, *inputs, **more):
    return ask(address, "/engine/embed", {"model": "fake", "inputs": list(inputs), **more})


def test_an_answer_has_a_vector_for_each_input_and_the_tokens_that_were_taken_in(engine):
    assert embed(engine, "ab", "c").envelope == {
        "state": "ok",
        "msg": {
            "model": "fake",
            "vectors": [[3.0, 97.0, 98.0, 1.0], [2.0, 99.0, 99.0, 1.0]],
            "dimensions": 4,
            "prompt_tokens": 5,
            "truncated": 0,
        },
    }


def test_options_cut_and_shorten_a_vector(engine):
    assert embed(engine, "ab", options={"dimensions": 1, "normalize": True}).msg["vectors"] == [[1.0]]
    answer = embed(engine, "ab", options={"dimensions": 2}, encoding="base64").msg
    assert (answer["vectors"], answer["dimensions"]) == ([wire.encode_vector([3.0, 97.0])], 2)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"inputs": []}, "inputs: must have at least 1 item(s), got 0"),
        ({"inputs": ["a"] * 2049}, "inputs: must have at most 2048 items, got 2049"),
        ({"inputs": ["a", ""]}, 'inputs[1]: must have at least 1 character(s), got ""'),
        ({"inputs": "a"}, 'inputs: must be a list, got "a"'),
        ({"inputs": ["a"], "encoding": "hex"}, "encoding: must be 'float' or 'base64', got \"hex\""),
        ({"inputs": ["a"], "options": {"dimensions": 0}}, "options.dimensions: must be at least 1, got 0"),
        ({"inputs": ["a"], "options": {"dimensions": 5}}, "options.dimensions: must be at most 4, the size of the"),
        ({"inputs": ["a"], "options": {"dimension": 5}}, "options.dimension: unknown; did you mean 'dimensions'?"),
        ({"inputs": ["a"], "options": {"prompt_name": "q"}}, "options.prompt_name: the model has no prompts, got 'q'"),
        ({"inputs": ["a", "b" * 100]}, "inputs[1]: has 101 tokens, the model takes 100; truncate cuts"),
    ],
)
def test_a_bad_field_is_named_with_what_is_allowed(engine, body, said):
    reply = ask(engine, "/engine/embed", {"model": "fake", **body})
    assert reply.status == 400
    assert reply.envelope["msg"].startswith(said)


def test_a_text_that_is_too_long_is_cut_where_that_is_asked_for(engine):
    answer = embed(engine, "a", "b" * 200, options={"truncate": True}).msg
    assert (answer["truncated"], answer["prompt_tokens"]) == (1, 2 + 100)


def test_documents_are_scored_in_their_order(reranker):
    body = {"model": "ranks", "query": "q", "documents": ["a", "abc", "ab"], "options": {"normalize": False}}
    reply = ask(reranker, "/engine/rerank", body)
    assert reply.msg == {"model": "ranks", "scores": [4.0, 6.0, 5.0], "prompt_tokens": 15, "truncated": 0}


def test_an_engine_says_what_it_serves_and_what_it_is(engine, reranker):
    assert ask(engine, "/engine/support_methods").msg == {"support_methods": ["embed", "info", "support_methods"]}
    assert ask(reranker, "/engine/support_methods").msg == {"support_methods": ["info", "rerank", "support_methods"]}
    info = ask(engine, "/engine/info").msg
    assert {"name": "fake", "protocol": "embed", "context_length": 100, "dimensions": 4}.items() <= info.items()
    assert {"running", "waiting", "rows", "tokens", "finished", "aborted", "failed"} <= info["load"].keys()


@pytest.mark.parametrize("path", ["engine", "front_door"])
def test_a_model_that_is_asked_for_what_it_can_not_do_says_what_it_speaks(request, front_door, path):
    def refused(model, method, body):
        # Straight to the engine of that name, or through the front door.
        fixture = {"fake": "engine", "ranks": "reranker", "chatty": "chat_engine"}[model]
        address = request.getfixturevalue(fixture if path == "engine" else path)
        reply = ask(address, f"/engine/{method}", {"model": model, **body})
        return reply.status, reply.envelope["code"], reply.envelope["msg"]

    hello = {"messages": [{"role": "user", "content": "hi"}]}
    bad = (400, "invalid_request")
    assert refused("fake", "inference", hello) == (*bad, "model: 'fake' speaks embed, not chat")
    assert refused("fake", "inference", {**hello, "stream": False}) == (*bad, "model: 'fake' speaks embed, not chat")
    assert refused("fake", "rerank", {"query": "q", "documents": ["a"]}) == (
        *bad,
        "model: 'fake' speaks embed, not rerank",
    )
    assert refused("ranks", "embed", {"inputs": ["a"]}) == (*bad, "model: 'ranks' speaks rerank, not embed")
    assert refused("chatty", "embed", {"inputs": ["a"]}) == (*bad, "model: 'chatty' speaks chat, not embed")


def test_the_front_door_has_every_protocol_s_models_answer(front_door):
    assert embed(front_door, "ab").msg["vectors"] == [[3.0, 97.0, 98.0, 1.0]]
    assert ask(front_door, "/engine/support_methods", {"model": "ranks"}).msg["support_methods"][1] == "rerank"
    assert ask(front_door, "/engine/info", {"model": "fake"}).msg["protocol"] == "embed"
    assert embed(front_door, "ab", model="none").envelope["msg"].startswith("no model 'none'")


def test_one_name_may_be_served_for_two_purposes(open_front_door, start_engine, fake):
    door = open_front_door()
    chat = start_engine(FakeEngine("both"), door)
    with serving_encoder(fake, name="both") as port, NameServerClient(door) as names, ChatClient(door) as client:
        names.register(ServerInfo("both", "127.0.0.1", port, EMBED))
        assert client.chat("both", [{"role": "user", "content": "hi"}]).content == "Hello world!"
        assert embed(door, "ab", model="both").msg["dimensions"] == 4
        assert client.get_services("both") == [chat]
        # What may be asked of any model is asked of the one that can be chatted with.
        assert "inference" in client.support_methods("both")
        assert {service.protocol for service in names.wait("both", 5)} == {"chat", "embed"}


@pytest.mark.parametrize("relayed", [True, False])
def test_the_clients_have_vectors_and_scores(front_door, relayed):
    with EmbedClient(front_door, relayed=relayed) as client:
        assert client.get_service_names() == ["fake"]
        assert client.embed("fake", "ab").vectors == ([3.0, 97.0, 98.0, 1.0],)
        answer = client.embed("fake", ["ab", "c" * 200], options={"dimensions": 2, "truncate": True})
        assert (answer.vectors, answer.dimensions, answer.truncated) == (([3.0, 97.0], [100.0, 99.0]), 2, 1)
        with pytest.raises(errors.InvalidRequest, match=r"options\.dimension: unknown"):
            client.embed("fake", "ab", options={"dimension": 2})
        with pytest.raises(errors.InvalidRequest, match="model: 'chatty' speaks chat, not embed"):
            client.embed("chatty", "ab")
        with pytest.raises(errors.NotFound, match="no model 'fakes'; did you mean 'fake'"):
            client.embed("fakes", "ab")
    with RerankClient(front_door, relayed=relayed) as client:
        answer = client.rerank("ranks", "q", ["a", "abc"], options={"normalize": False})
        assert (answer.scores, answer.prompt_tokens) == ((4.0, 6.0), 10)


async def test_the_asyncio_clients_have_them_too(front_door):
    async with AsyncEmbedClient(front_door) as client:
        assert (await client.embed("fake", ["ab"])).vectors == ([3.0, 97.0, 98.0, 1.0],)
    async with AsyncRerankClient(front_door) as client:
        assert (await client.rerank("ranks", "q", ["a"])).scores == (4.0,)


def test_a_text_that_breaks_the_model_fails_its_request_alone(engine, fake):
    fake.pause_s = 0.1
    with ThreadPoolExecutor(3) as pool:
        replies = [pool.submit(embed, engine, text) for text in ("aaaa", "b!bb", "cccc")]
    assert [reply.result().status for reply in replies] == [200, 500, 200]
    assert "the model broke on this text" in replies[1].result().envelope["msg"]


def test_a_full_queue_says_when_to_come_again_and_the_engine_answers_for_its_health_meanwhile(engine, fake):
    fake.pause_s = 0.5
    with ThreadPoolExecutor(6) as pool:
        replies = [pool.submit(embed, engine, f"text {i}") for i in range(6)]
        time.sleep(0.1)
        began = time.monotonic()
        assert ask(engine, "/health", method="GET").status == 200
        assert ask(engine, "/engine/info").msg["load"]["running"] >= 1
        assert time.monotonic() - began < 0.4
    found = [reply.result() for reply in replies]
    assert sorted(reply.status for reply in found) == [200] * 4 + [429] * 2
    busy = next(reply for reply in found if reply.status == 429)
    assert busy.headers["retry-after"] == "1"
    assert "the queue is full: 4 requests" in busy.envelope["msg"]


def test_what_a_client_asked_for_that_has_left_is_not_computed(engine, fake):
    fake.pause_s = 0.3
    host, port = engine.split(":")
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(embed, engine, "first")
        time.sleep(0.1)
        leaving = http.client.HTTPConnection(host, int(port), timeout=10)
        leaving.request("POST", "/engine/embed", json.dumps({"model": "fake", "inputs": ["x" * 50]}))
        time.sleep(0.1)
        leaving.close()
        assert first.result().status == 200
    assert until(lambda: ask(engine, "/engine/info").msg["load"]["aborted"] == 1, 3)
    fake.pause_s = 0.0
    assert embed(engine, "next").status == 200
    assert [51] not in fake.steps


def test_an_engine_that_stops_tells_who_still_waits(fake):
    fake.pause_s = 1.5
    with ThreadPoolExecutor(2) as pool:
        with serving_encoder(fake) as port:
            waiting = [pool.submit(embed, f"127.0.0.1:{port}", "a" * (10 + 50 * i)) for i in range(2)]
            time.sleep(0.2)
        replies = [reply.result() for reply in waiting]
    assert {reply.status for reply in replies} <= {200, 503}
    assert "the server is stopping" in replies[-1].envelope["msg"]


def test_a_wait_without_a_protocol_ends_with_any(front_door):
    services = ask(front_door, "/nameserver/wait", {"name": "ranks", "timeout_s": 1}).msg["services"]
    assert [service["protocol"] for service in services] == ["rerank"]
    assert ask(front_door, "/nameserver/wait", {"name": "ranks", "protocol": "chat", "timeout_s": 0.1}).status == 504
