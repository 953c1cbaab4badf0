"""The questions to engine pods, over real HTTP on loopback, answered as well and as badly as pods may."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

import samples
from modelengine import kinds
from modelengine_operator import asking
from modelengine_operator.asking import MAX_ANSWER, Asking
from modelengine_operator.observed import Progress
from modelengine_operator.podstate import PodState

INFO = {
    "name": "qwen",
    "parameters": 596_049_920,
    "context_length": 40_960,
    "architecture": "Qwen3ForCausalLM",
    "dtype": "bfloat16",
    "device": "cuda",
    "other": [1],
}


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Pod:
    """What listens on an engine's port."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer: Any = {"state": "ok", "msg": {}}
        self.body: bytes | None = None
        self.status = 200
        self.headers: dict[str, str] = {}
        self.is_silent = False
        self.is_chunked = False

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path} {(await request.read()).decode()}".strip())
        if self.is_silent:
            await asyncio.Event().wait()
        body = json.dumps(self.answer).encode() if self.body is None else self.body
        if not self.is_chunked:
            return web.Response(status=self.status, body=body, headers=self.headers, content_type="application/json")
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(body)
        return response


@pytest.fixture
async def pod(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pod]:
    pod = Pod()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", pod.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    monkeypatch.setattr(kinds, "ENGINE_PORT", runner.addresses[0][1])
    yield pod
    await runner.cleanup()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def ask(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Asking]:
    monkeypatch.setattr(asking, "TIMEOUT_S", 0.3)
    async with Asking(clock) as found:
        yield found
    assert [task for task in asyncio.all_tasks() if task.get_name().startswith("asking")] == []


class Wakes:
    """Counts, and can be waited for."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


@pytest.fixture
def wake() -> Wakes:
    return Wakes()


STARTING = samples.state(is_ready=False, ip="127.0.0.1")
READY = samples.state(ip="127.0.0.1")


async def settled(ask: Asking) -> None:
    """Until all questions that are under way are answered, or given up."""
    async with asyncio.timeout(5):
        while ask._tasks:
            await asyncio.sleep(0.005)


async def progress(ask: Asking, wake: Wakes, pod: PodState = STARTING) -> Progress | None:
    ask.progress(pod, wake)
    await settled(ask)
    return ask.progress(pod, wake)


async def facts(ask: Asking, wake: Wakes) -> Any:
    ask.facts(READY, wake)
    await settled(ask)
    return ask.facts(READY, wake)


async def test_how_far_a_pod_is(ask: Asking, wake: Wakes, pod: Pod) -> None:
    pod.answer["msg"] = {"stage": "downloading", "bytes": 5, "total": 10}
    assert ask.progress(STARTING, wake) is None, "nobody waits for the answer"
    assert await progress(ask, wake) == Progress("downloading", 5, 10)
    assert pod.asked == ["GET /loading"]
    assert wake.count == 1


async def test_what_a_pod_has_loaded(ask: Asking, wake: Wakes, pod: Pod) -> None:
    pod.answer["msg"] = INFO
    assert await facts(ask, wake) == {
        "parameters": 596_049_920,
        "contextLength": 40_960,
        "architecture": "Qwen3ForCausalLM",
        "dtype": "bfloat16",
        "device": "cuda",
    }
    assert pod.asked == ["POST /engine/info {}"]
    assert wake.count == 1


async def test_a_pod_is_asked_how_far_it_is_from_time_to_time(ask: Asking, wake: Wakes, pod: Pod, clock: Clock) -> None:
    pod.answer["msg"] = {"stage": "loading"}
    assert await progress(ask, wake) == Progress("loading")
    clock.now_s += asking.EVERY_S - 0.1
    await progress(ask, wake)
    assert len(pod.asked) == 1
    clock.now_s += 0.1
    pod.answer["msg"] = {"stage": "warming up"}
    assert await progress(ask, wake) == Progress("warming up")
    assert len(pod.asked) == 2
    clock.now_s += asking.EVERY_S
    await progress(ask, wake)
    assert (len(pod.asked), wake.count) == (3, 2), "the same answer is no news"


async def test_what_a_pod_has_loaded_is_asked_until_it_has_said_it(
    ask: Asking, wake: Wakes, pod: Pod, clock: Clock
) -> None:
    pod.status = 503
    assert await facts(ask, wake) is None
    pod.status = 200
    pod.answer["msg"] = INFO
    clock.now_s += asking.EVERY_S
    assert (await facts(ask, wake))["device"] == "cuda"
    clock.now_s += 1000
    await facts(ask, wake)
    assert len(pod.asked) == 2


async def test_that_it_was_asked_the_one_does_not_delay_the_other(ask: Asking, wake: Wakes, pod: Pod) -> None:
    pod.answer["msg"] = INFO | {"stage": "ready"}
    await progress(ask, wake)
    assert await facts(ask, wake)


async def test_each_pod_is_asked_for_itself(ask: Asking, wake: Wakes, pod: Pod) -> None:
    pod.answer["msg"] = {"stage": "loading"}
    for name in ("a", "b"):
        one = samples.state(name, is_ready=False, ip="127.0.0.1")
        assert await progress(ask, wake, one) == Progress("loading")
    assert len(pod.asked) == 2


async def test_a_pod_that_is_gone_is_forgotten(ask: Asking, wake: Wakes, pod: Pod, clock: Clock) -> None:
    pod.answer["msg"] = INFO | {"stage": "loading"}
    await progress(ask, wake)
    await facts(ask, wake)
    ask.keep({READY.uid})
    assert ask.facts(READY, wake)
    ask.keep({"another"})
    assert (ask._facts, ask._progress, ask._asked_at) == ({}, {}, {})
    assert await progress(ask, wake) == Progress("loading")


async def test_a_pod_with_an_address_of_the_sixth_version_is_asked_there(
    ask: Asking, wake: Wakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod, app = Pod(), web.Application()
    pod.answer["msg"] = {"stage": "loading"}
    app.router.add_route("*", "/{path:.*}", pod.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "::1", 0).start()
    except OSError:
        await runner.cleanup()
        pytest.skip("no IPv6 on this machine")
    monkeypatch.setattr(kinds, "ENGINE_PORT", runner.addresses[0][1])
    assert await progress(ask, wake, samples.state(is_ready=False, ip="::1")) == Progress("loading")
    await runner.cleanup()


@pytest.mark.parametrize(
    "msg",
    [
        None,
        [],
        "loading",
        {},
        {"stage": ""},
        {"stage": 5},
        {"stage": None, "bytes": 1},
    ],
)
async def test_a_stage_that_is_none_is_no_answer(ask: Asking, wake: Wakes, pod: Pod, msg: Any) -> None:
    pod.answer["msg"] = msg
    assert await progress(ask, wake) is None
    assert wake.count == 0


@pytest.mark.parametrize("value", [-1, 1.5, "5", True, None, 2**53 + 1, [1]])
async def test_a_number_that_is_none_is_left_out(ask: Asking, wake: Wakes, pod: Pod, value: Any) -> None:
    pod.answer["msg"] = INFO | {"stage": "loading", "bytes": value, "total": value, "parameters": value, "dtype": 5}
    assert await progress(ask, wake) == Progress("loading")
    told = await facts(ask, wake)
    assert "parameters" not in told
    assert "dtype" not in told
    assert told["device"] == "cuda"


async def test_long_words_are_cut(ask: Asking, wake: Wakes, pod: Pod) -> None:
    pod.answer["msg"] = {"stage": "s" * 1000, "device": "d" * 1000}
    found = await progress(ask, wake)
    assert found == Progress("s" * 64)
    assert await facts(ask, wake) == {"device": "d" * 128}


@pytest.mark.parametrize(
    "answer",
    [
        {"body": b""},
        {"body": b"not JSON"},
        {"body": b"[]"},
        {"body": b'"text"'},
        {"body": b"\xff\xfe"},
        {"body": b"[" * 60_000},
        {"body": b'{"state": "ok", "msg": {"stage": "' + b"s" * MAX_ANSWER + b'"}}'},
        {"body": b'{"state": "ok", "msg": {"stage": "' + b"s" * MAX_ANSWER + b'"}}', "is_chunked": True},
        {"status": 404},
        {"status": 500},
        {"status": 302, "headers": {"location": "/elsewhere"}},
        {"is_silent": True},
    ],
    ids=lambda answer: str(answer)[:50],
)
async def test_whatever_a_pod_answers_harms_nobody(
    ask: Asking, wake: Wakes, pod: Pod, answer: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    pod.answer["msg"] = {"stage": "loading"} | INFO
    for name, value in answer.items():
        setattr(pod, name, value)
    assert await progress(ask, wake) is None
    assert await facts(ask, wake) is None
    assert wake.count == 0
    assert len(pod.asked) == 2
    assert [record for record in caplog.records if record.levelname != "DEBUG"] == []


async def test_an_answer_without_a_length_is_read_too(ask: Asking, wake: Wakes, pod: Pod) -> None:
    pod.is_chunked = True
    pod.answer["msg"] = {"stage": "loading"}
    assert await progress(ask, wake) == Progress("loading")


async def test_a_pod_that_nobody_listens_on_is_no_error(ask: Asking, wake: Wakes, pod: Pod) -> None:
    assert await progress(ask, wake, samples.state(is_ready=False, ip="127.0.0.9")) is None
    assert await progress(ask, wake, samples.state("x", is_ready=False, ip="no address")) is None


async def test_what_was_known_is_given_up_when_a_pod_falls_silent(
    ask: Asking, wake: Wakes, pod: Pod, clock: Clock
) -> None:
    pod.answer["msg"] = {"stage": "loading"}
    assert await progress(ask, wake) == Progress("loading")
    pod.status = 503
    clock.now_s += asking.EVERY_S
    assert await progress(ask, wake) is None
    assert wake.count == 2


async def test_who_stops_does_not_wait_for_answers(clock: Clock, wake: Wakes, pod: Pod) -> None:
    pod.is_silent = True
    async with asyncio.timeout(1), Asking(clock) as ask:
        for i in range(3):
            ask.progress(samples.state(f"p{i}", is_ready=False, ip="127.0.0.1"), wake)
        await asyncio.sleep(0.05)
    assert ask._tasks == {}
