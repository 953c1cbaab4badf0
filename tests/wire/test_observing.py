"""What a front door and an engine tell of the requests that they answer: in headers, in metrics, and in their logs."""

from __future__ import annotations

import json
import logging
import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.types import ASGIApp, Receive, Scope, Send

from callers import StartEngine, ask, until
from fakes import FakeEngine, FakeRunner, fake_model
from modelengine import NameServerClient, errors
from modelengine.env import MetricsPort
from modelengine.exposition import Exposition
from modelengine.protocol import ServerInfo
from modelengine_gateway import app
from modelengine_gateway.app import FrontDoor
from modelengine_gateway.settings import Settings
from modelengine_runtime.app import create_app
from modelengine_runtime.engine import Engine
from modelengine_runtime.lifecycle import Lifecycle
from modelengine_runtime.scheduler import Limits
from processes import free_port
from processes import front_door as front_door_process
from scripted import dying
from servers import running

INFERENCE = "/engine/inference"
SECRET = "the canary sings at midnight"
TRACE = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "a=1,b=2"}
LIMITS = Limits(max_running=8, max_waiting=4, step_tokens=64, kv_blocks=6_000)

Values = dict[tuple[str, frozenset[tuple[str, str]]], float]


def chat(model: str = "demo", *, stream: bool = True, text: str = "hi") -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": text}], "stream": stream}


def scraped(port: int | None) -> Values:
    """Each series with its value, as Prometheus' own parser reads them."""
    reply = ask(f"127.0.0.1:{port}", "/metrics", method="GET")
    assert (reply.status, reply.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(reply.body.decode())
        for sample in family.samples
    }


def value(values: Values, name: str, **labels: str) -> float:
    """The sum over the series with these labels."""
    return sum(
        found for (known, given), found in values.items() if known == name and labels.items() <= dict(given).items()
    )


class Overheard:
    """An ASGI app that notes the headers of what it passes on."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.headers: list[dict[str, str]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == INFERENCE:
            self.headers.append({name.decode(): text.decode() for name, text in scope["headers"]})
        await self._app(scope, receive, send)


@pytest.fixture
def door() -> FrontDoor:
    return app.create(Settings(metrics_port=MetricsPort(0), queue_s=0))


@pytest.fixture
def address(stack: ExitStack, door: FrontDoor) -> str:
    return f"127.0.0.1:{stack.enter_context(running(door.app, on_stop=door.directory.close))}"


@contextmanager
def engine(runner: FakeRunner) -> Iterator[tuple[str, Exposition]]:
    lifecycle = Lifecycle("demo", lambda: Engine(fake_model(runner), LIMITS), "", "127.0.0.1")
    exposition = Exposition("engine", "127.0.0.1", MetricsPort(0))
    with running(
        create_app(lifecycle, exposition=exposition), on_listening=lifecycle.begin, on_stop=lifecycle.leave
    ) as port:
        assert until(lambda: lifecycle.is_ready, 10)
        yield f"127.0.0.1:{port}", exposition
    lifecycle.close()


def test_streams_and_whole_answers_are_counted_with_their_tokens_and_times(
    door: FrontDoor, address: str, start_engine: StartEngine
) -> None:
    start_engine(FakeEngine(words=["a", "b", "c"], pause_s=0.05), address)
    assert ask(address, INFERENCE, chat()).status == 200
    assert ask(address, INFERENCE, chat(stream=False)).status == 200
    found = scraped(door.exposition.port)
    of_demo = {"gen_ai_request_model": "demo", "gen_ai_operation_name": "chat"}
    assert value(found, "gen_ai_server_request_duration_seconds_count", **of_demo, error_type="") == 2
    assert 0.3 <= value(found, "gen_ai_server_request_duration_seconds_sum", **of_demo) < 5
    # A whole answer has no first token, and no time between tokens.
    assert value(found, "gen_ai_server_time_to_first_token_seconds_count", **of_demo) == 1
    assert 0.05 <= value(found, "gen_ai_server_time_to_first_token_seconds_sum", **of_demo) < 0.14
    assert value(found, "gen_ai_server_time_per_output_token_seconds_count", **of_demo) == 1
    assert 0.05 <= value(found, "gen_ai_server_time_per_output_token_seconds_sum", **of_demo) < 1
    assert value(found, "modelengine_request_prompt_tokens_total", gen_ai_request_model="demo") == 6
    assert value(found, "modelengine_request_answer_tokens_total", gen_ai_request_model="demo") == 6
    assert value(found, "modelengine_front_door_replicas", model="demo", protocol="chat") == 1
    assert value(found, "modelengine_build_info", part="front-door") == 1
    assert value(found, "process_resident_memory_bytes") > 1e6


def test_of_several_answers_at_once_all_tokens_are_counted_and_no_time_between_them(
    door: FrontDoor, address: str, start_engine: StartEngine
) -> None:
    start_engine(FakeEngine(words=["a", "b", "c"], pause_s=0.05), address)
    for stream in (False, True):
        body = {"model": "demo", "messages": [{"role": "user", "content": "hi"}], "n": 2, "stream": stream}
        assert ask(address, "/v1/chat/completions", body).status == 200
    found = scraped(door.exposition.port)
    assert value(found, "modelengine_request_prompt_tokens_total", gen_ai_request_model="demo") == 6
    assert value(found, "modelengine_request_answer_tokens_total", gen_ai_request_model="demo") == 12
    assert value(found, "gen_ai_server_time_per_output_token_seconds_count") == 0


def test_what_goes_wrong_is_counted_by_its_code_and_no_foreign_name_becomes_a_label(
    door: FrontDoor, address: str, start_engine: StartEngine
) -> None:
    start_engine(FakeEngine(break_after=1), address)
    start_engine(FakeEngine("full", refusal=errors.Busy("full")), address)
    for i in range(20):
        assert ask(address, INFERENCE, chat(f"random-{i}")).status == 404
    assert ask(address, INFERENCE, {"model": SECRET}).status == 400
    assert ask(address, INFERENCE, chat()).lines[-1]["code"] == "request_failed"
    assert ask(address, INFERENCE, chat("full")).status == 429
    found = scraped(door.exposition.port)
    counted = {
        (dict(labels)["gen_ai_request_model"], dict(labels)["error_type"]): count
        for (name, labels), count in found.items()
        if name == "gen_ai_server_request_duration_seconds_count"
    }
    assert counted == {
        ("unknown", "not_found"): 20,
        ("unknown", "invalid_request"): 1,
        ("demo", "request_failed"): 1,
        ("full", "busy"): 1,
    }
    # It was asked again while it waited for a place.
    assert value(found, "modelengine_front_door_retries_total", error_type="busy") >= 1


def test_open_streams_are_shown_and_a_client_that_leaves_is_counted_as_such(
    door: FrontDoor, address: str, start_engine: StartEngine
) -> None:
    start_engine(FakeEngine(words=["a"] * 600, pause_s=0.05), address)
    host, port = address.split(":")
    body = b'{"model": "demo", "messages": [{"role": "user", "content": "hi"}]}'
    with socket.create_connection((host, int(port)), timeout=5) as client:
        client.sendall(
            b"POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n%s"
            % (INFERENCE.encode(), len(body), body)
        )
        assert client.recv(10) == b"HTTP/1.1 2"
        found = scraped(door.exposition.port)
        assert value(found, "modelengine_front_door_requests_running", model="demo") == 1
        assert value(found, "modelengine_front_door_streams_open") == 1
        assert value(found, "modelengine_front_door_requests_waiting") == 0

    def left() -> float:
        return value(
            scraped(door.exposition.port), "gen_ai_server_request_duration_seconds_count", error_type="client_left"
        )

    assert until(lambda: left() == 1, 2)
    found = scraped(door.exposition.port)
    assert value(found, "modelengine_front_door_requests_running") == 0
    assert value(found, "modelengine_front_door_streams_open") == 0


def test_a_replica_that_is_gone_is_a_retry_and_an_ejection(door: FrontDoor, address: str, stack: ExitStack) -> None:
    with NameServerClient(address) as names:
        names.register(stack.enter_context(dying()))
    assert ask(address, INFERENCE, chat()).status == 503
    assert until(lambda: value(scraped(door.exposition.port), "modelengine_front_door_ejections_total") == 1, 5)
    assert (
        value(scraped(door.exposition.port), "modelengine_front_door_retries_total", error_type="connection_failed")
        == 1
    )


def test_it_is_shown_how_many_replicas_say_how_busy_they_are_and_why_others_do_not(
    door: FrontDoor, address: str, start_engine: StartEngine
) -> None:
    for reports in (True, True, False):
        start_engine(FakeEngine(reports_load=reports), address)

    def shown(name: str, **labels: str) -> float:
        return value(scraped(door.exposition.port), f"modelengine_front_door_{name}", **labels)

    of_demo = {"model": "demo", "protocol": "chat"}
    assert until(lambda: shown("replicas_reporting", **of_demo) == 2, 5)
    assert shown("replicas", **of_demo) == 3
    assert until(lambda: shown("load_report_failures_total", error_type="not_found") >= 1, 5)
    assert shown("load_report_failures_total") == shown("load_report_failures_total", error_type="not_found")


def test_an_answer_has_the_caller_s_id_or_a_new_one_and_the_engine_gets_it_with_the_trace(
    address: str, stack: ExitStack
) -> None:
    overheard = Overheard(FakeEngine().app())
    with NameServerClient(address) as names:
        names.register(ServerInfo("demo", "127.0.0.1", stack.enter_context(running(overheard))))
    assert (
        ask(address, INFERENCE, chat(), headers={"x-request-id": "my.id_1-2", **TRACE}).headers["x-request-id"]
        == "my.id_1-2"
    )
    made = ask(address, INFERENCE, chat(), headers={"x-request-id": "not sane; at all"}).headers["x-request-id"]
    assert re.fullmatch("[0-9a-f]{32}", made)
    first, second = overheard.headers
    assert {name: first[name] for name in ("x-request-id", *TRACE)} == {"x-request-id": "my.id_1-2", **TRACE}
    assert second["x-request-id"] == made
    assert TRACE.keys().isdisjoint(second)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (INFERENCE, b"{", 400),
        ("/nowhere", b"{}", 404),
        ("/engine/inference", b" " * (9 << 20), 413),
        ("/health", None, 405),
    ],
)
def test_a_refusal_has_an_id_as_well(address: str, path: str, body: bytes | None, status: int) -> None:
    reply = ask(address, path, body, headers={"x-request-id": "mine"})
    assert (reply.status, reply.headers["x-request-id"]) == (status, "mine")


def test_a_fault_of_ours_has_an_id_too(door: FrontDoor, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> object:
        raise ValueError("a mistake of ours")

    monkeypatch.setattr("modelengine_gateway.proxy.Relay.info", broken)
    reply = ask(address, "/engine/info", {"model": "demo"}, headers={"x-request-id": "mine"})
    assert (reply.status, reply.headers["x-request-id"]) == (500, "mine")


def test_an_engine_shows_its_own_numbers_and_the_same_by_vllms_names() -> None:
    with engine(FakeRunner()) as (address, exposition):
        assert ask(address, INFERENCE, chat() | {"options": {"max_new_tokens": 5}}).status == 200
        assert ask(address, INFERENCE, chat("other")).status == 404
        assert ask(address, INFERENCE, chat(text="!"), headers={"x-request-id": "the-bad-one"}).status == 500
        found = scraped(exposition.port)
    warm_up = 2
    assert value(found, "modelengine_generation_tokens_total", model="demo") == 5 + warm_up
    assert value(found, "vllm:generation_tokens_total", model_name="demo") == 5 + warm_up
    assert value(found, "modelengine_prompt_tokens_total") == value(found, "vllm:prompt_tokens_total") > 0
    assert value(found, "modelengine_requests_total", outcome="finished") == 2
    assert value(found, "modelengine_requests_total", outcome="failed") == 1
    assert value(found, "modelengine_engine_stage", stage="ready") == 1
    assert value(found, "modelengine_engine_stage") == 1
    assert value(found, "modelengine_steps_total") >= 7
    assert value(found, "modelengine_step_tokens_total") >= 7
    assert value(found, "modelengine_kv_cache_blocks", model="demo") == LIMITS.kv_blocks
    assert value(found, "gen_ai_server_request_duration_seconds_count", error_type="") == 1
    assert value(found, "vllm:e2e_request_latency_seconds_count", model_name="demo") == 1
    assert value(found, "vllm:time_to_first_token_seconds_count", model_name="demo") == 1
    assert value(found, "vllm:e2e_request_latency_seconds_bucket", le="+Inf") == 1
    assert value(found, "vllm:cache_config_info", block_size="16", num_gpu_blocks="6000") == 1
    assert value(found, "vllm:num_requests_running", model_name="demo") == 0


def test_the_log_lines_of_a_request_carry_its_id_in_the_step_thread_too(caplog: pytest.LogCaptureFixture) -> None:
    with engine(FakeRunner()) as (address, _):
        ask(address, INFERENCE, chat(text="!"), headers={"x-request-id": "the-bad-one"})
    [failed] = [record for record in caplog.records if record.name == "modelengine_runtime.loop"]
    assert failed.__dict__["request_id"] == "the-bad-one"


def test_each_request_has_one_line_when_it_has_ended_and_probes_have_none(
    address: str, start_engine: StartEngine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "modelengine.access")
    start_engine(FakeEngine(words=[SECRET, "b"]), address)
    ask(address, "/health", method="GET")
    ask(address, INFERENCE, chat(text=SECRET))
    ask(address, INFERENCE, chat(SECRET))
    ask(address, f"/v1/nothing/{SECRET.replace(' ', '-')}", {})

    def lines() -> list[dict[str, object]]:
        return [record.__dict__ for record in caplog.records if record.name == "modelengine.access"]

    assert until(lambda: len(lines()) >= 4)
    known = ("method", "path", "status", "model", "operation", "error", "prompt_tokens", "answer_tokens")
    assert [tuple(line[name] for name in known) for line in lines() if "nameserver" not in str(line["path"])] == [
        ("POST", INFERENCE, 200, "demo", "chat", None, 3, 2),
        ("POST", INFERENCE, 404, "unknown", "chat", "not_found", None, None),
        ("POST", "unrouted", 404, None, None, "not_found", None, None),
    ]
    assert all(0 <= float(str(line["duration_s"])) < 10 for line in lines())
    assert SECRET not in str(lines())


def test_the_line_has_the_path_of_every_route_however_it_is_found(
    address: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "modelengine.access")
    asked = [
        ("POST", "/engine/info", "/engine/info"),
        ("GET", "/api/tags", "/api/tags"),
        ("GET", "/v1/models/any", "/v1/models/{name:path}"),
        ("POST", "/nameserver/get_services", "/nameserver/get_services"),
        ("POST", "/nameserver/info", "/nameserver/info"),
        ("GET", "/", "/"),
        ("GET", "/page/nothing.js", "/page/{name}"),
    ]
    for method, path, _ in asked:
        ask(address, path, {}, method=method)

    def paths() -> list[str]:
        return [record.__dict__["path"] for record in caplog.records if record.name == "modelengine.access"]

    assert until(lambda: len(paths()) == len(asked))
    assert paths() == [template for _, _, template in asked]


def test_the_line_has_the_name_of_the_key_and_never_the_key(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "modelengine.access")
    (tmp_path / "keys").write_text("alice: the-key-of-alice-")
    with running(app.create(Settings(api_keys=str(tmp_path / "keys"))).app) as port:
        for key in ("the-key-of-alice-", "the-key-of-nobody"):
            ask(f"127.0.0.1:{port}", "/api/tags", method="GET", headers={"authorization": f"Bearer {key}"})

    def lines() -> list[dict[str, object]]:
        return [record.__dict__ for record in caplog.records if record.name == "modelengine.access"]

    assert until(lambda: len(lines()) == 2)
    assert [line["key"] for line in lines()] == ["alice", None]
    assert "the-key-of" not in str(lines())


def test_a_stream_s_parts_go_past_every_layer_and_its_start_through_them(
    address: str, start_engine: StartEngine
) -> None:
    """The price of a chunk: what a layer around `send` sees of a stream is how it starts and how it ends."""
    seen: list[str] = []

    class Layer:
        def __init__(self, app: ASGIApp) -> None:
            self._app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            async def noting(message: dict[str, object]) -> None:
                seen.append(str(message["type"]))
                await send(message)

            await self._app(scope, receive, noting)

    door = app.create(Settings())
    inner = door.app.user_middleware.copy()
    door.app.user_middleware[:] = [inner[0], type(inner[0])(Layer), *inner[1:]]
    with running(door.app, on_stop=door.directory.close) as port:
        start_engine(FakeEngine(words=["a"] * 50), f"127.0.0.1:{port}")
        seen.clear()
        assert len(ask(f"127.0.0.1:{port}", INFERENCE, chat()).lines) == 51
        assert seen == ["http.response.start", "http.response.body"]


def test_only_metrics_are_at_their_port_and_only_for_reading(door: FrontDoor, address: str) -> None:
    at = f"127.0.0.1:{door.exposition.port}"
    assert ask(at, "/metrics?name[]=x", method="GET").status == 200
    assert ask(at, "/metrics", method="HEAD").body == b""
    assert ask(at, "/", method="GET").status == 404
    assert ask(at, "/metrics/../nameserver/info", method="GET").status == 404
    refused = ask(at, "/metrics", {})
    assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD")
    assert ask(address, "/metrics", method="GET").status == 404


def test_prometheus_gets_the_form_that_it_asks_for(door: FrontDoor, address: str) -> None:
    accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
    reply = ask(f"127.0.0.1:{door.exposition.port}", "/metrics", method="GET", headers={"accept": accept})
    assert reply.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert reply.body.endswith(b"# EOF\n")
    packed = ask(f"127.0.0.1:{door.exposition.port}", "/metrics", method="GET", headers={"accept-encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.body[:2] == b"\x1f\x8b"


@pytest.mark.parametrize("sent", [b"", b"GET /metrics HTTP/1.1\r\n", b"x" * 40_000, b"\x00\xff\r\n\r\n"])
def test_whoever_sends_something_else_there_harms_nobody(door: FrontDoor, address: str, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", door.exposition.port or 0), timeout=5) as sock:
        sock.sendall(sent)
        assert value(scraped(door.exposition.port), "modelengine_build_info") == 1


def test_a_taken_port_stops_the_start_if_it_was_asked_for_and_is_done_without_if_not(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        assert Exposition("front-door", "127.0.0.1", MetricsPort(number, is_asked_for=False)).port is None
        with pytest.raises(
            errors.PortTaken, match=rf"MODELENGINE_METRICS_PORT: port {number} on 127\.0\.0\.1 is taken"
        ):
            Exposition("front-door", "127.0.0.1", MetricsPort(number))
    with pytest.raises(errors.InvalidRequest, match="can't listen on no-such-host"):
        Exposition("front-door", "no-such-host.invalid", MetricsPort(0))


def test_a_front_door_as_a_process_shows_metrics_and_logs_as_json(tmp_path: Path) -> None:
    port, metrics_port = free_port(), free_port()
    settings = {"metrics_port": metrics_port, "log_format": "json", "log_level": "INFO"}
    with front_door_process(tmp_path, port, **settings) as server:
        assert ask(f"127.0.0.1:{port}", INFERENCE, chat("a\nb"), headers=TRACE).status == 404
        assert value(scraped(metrics_port), "modelengine_build_info") == 1
        deadline = time.monotonic() + 5
        while INFERENCE not in server.output and time.monotonic() < deadline:
            time.sleep(0.05)
        lines = [json.loads(line) for line in server.output.splitlines()]
    [line] = [line for line in lines if line.get("path") == INFERENCE]
    assert (line["status"], line["trace_id"]) == (404, "0af7651916cd43dd8448eb211c80319c")
