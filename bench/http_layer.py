"""What our HTTP layer adds to the engine, and the relay on 9527 to that: time to the first chunk, CPU for each chunk.

Three ways to the same Engine over a model that costs nothing (`fake_engine`): taken from its event stream in its own
process, over HTTP, and through the front door. The three take turns in every round, and are compared within it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from bench import direct, fake_engine, load, processes, stats
from bench.options import Options
from bench.processes import LOOPBACK
from bench.report import Table
from bench.stats import Sample
from bench.traffic import Load, Measured
from modelengine import ChatClient

PATH = "/engine/inference"
STREAMS = (1, 8, 32)
ANSWER_TOKENS = 64
ENGINE, DOOR = direct.PROCESS, "door"
START_S = 60.0
FIRST_NOTES = (
    "median time from a request to the first chunk of its streamed answer, one request at a time, connections kept",
    "alive, answers of one token from a model that takes no time: the engine alone (its events taken in its own",
    "process), over HTTP, and through the front door's relay on 9527. Added: within a round.",
)
CPU_NOTES = (
    f"CPU of the server process for each chunk of concurrent streams of {ANSWER_TOKENS} tokens and an end, "
    f"{fake_engine.STEP_S * 1e3:g} ms a step:",
    "the engine alone (driven in its process), the engine's process over HTTP, and the front door's process when it",
    "relays. At 1 stream the step thread's own work falls on one chunk, at 32 on 32. HTTP adds: within a round.",
)


@dataclass(frozen=True, slots=True)
class Servers:
    """Ports and process ids of one engine and the front door that lists it."""

    engine_port: int
    door_port: int
    pids: dict[str, int]


def run(options: Options) -> list[Table]:
    with servers() as at:
        for port in (at.engine_port, at.door_port):
            load.run(the_load(at, port, STREAMS[-1], ANSWER_TOKENS, options.warm_up_s))
        first = stats.take_turns({_label(1): partial(first_chunk, at, options.seconds)}, options.rounds)
        cases = {_label(n): partial(cpu_per_chunk, at, n, options.seconds) for n in STREAMS}
        cpu = stats.take_turns(cases, options.rounds)
    return [
        Table("http_layer: time to the first chunk", FIRST_NOTES, first),
        Table("http_layer: CPU per chunk", CPU_NOTES, cpu),
    ]


def _label(streams: int) -> str:
    return "1 stream" if streams == 1 else f"{streams} streams"


def first_chunk(at: Servers, seconds: float) -> Sample:
    alone = direct.run(the_load(at, 0, 1, 1, seconds))
    over_http = load.run(the_load(at, at.engine_port, 1, 1, seconds))
    relayed = load.run(the_load(at, at.door_port, 1, 1, seconds))
    return first_chunk_sample(alone, over_http, relayed)


def first_chunk_sample(alone: Measured, over_http: Measured, relayed: Measured) -> Sample:
    return {
        "engine alone us": alone.first_p50 * 1e6,
        "over HTTP us": over_http.first_p50 * 1e6,
        "HTTP adds us": (over_http.first_p50 - alone.first_p50) * 1e6,
        "through 9527 us": relayed.first_p50 * 1e6,
        "9527 adds us": (relayed.first_p50 - over_http.first_p50) * 1e6,
    }


def cpu_per_chunk(at: Servers, streams: int, seconds: float) -> Sample:
    alone = direct.run(the_load(at, 0, streams, ANSWER_TOKENS, seconds))
    over_http = load.run(the_load(at, at.engine_port, streams, ANSWER_TOKENS, seconds))
    relayed = load.run(the_load(at, at.door_port, streams, ANSWER_TOKENS, seconds))
    return cpu_sample(alone, over_http, relayed)


def cpu_sample(alone: Measured, over_http: Measured, relayed: Measured) -> Sample:
    engine_alone = us_per_chunk(alone, ENGINE)
    engine_http = us_per_chunk(over_http, ENGINE)
    return {
        "engine alone us": engine_alone,
        "over HTTP us": engine_http,
        "HTTP adds us": engine_http - engine_alone,
        "9527's process us": us_per_chunk(relayed, DOOR),
        "chunks/s over HTTP": stats.per(over_http.chunks, over_http.seconds),
    }


def us_per_chunk(measured: Measured, process: str) -> float:
    return stats.per(measured.cpu[process], measured.chunks) * 1e6


def the_load(at: Servers, port: int, streams: int, tokens: int, seconds: float) -> Load:
    body = {
        "model": fake_engine.NAME,
        "messages": [{"role": "user", "content": "Tell me a story, please."}],
        "options": {"max_new_tokens": tokens},
        "stream": True,
    }
    return Load(
        port=port,
        path=PATH,
        bodies=[json.dumps(body)],
        connections=streams,
        seconds=seconds,
        expect=f'"completion_tokens":{tokens},',
        pids=at.pids,
    )


@contextmanager
def servers() -> Iterator[Servers]:
    with processes.front_door() as (door, door_port):
        address = f"{LOOPBACK}:{door_port}"
        fake = (*processes.PYTHON, "bench.fake_engine")
        with processes.running(fake, host=address) as engine, ChatClient(address) as client:
            listed = client.wait_service_available(fake_engine.NAME, START_S)
            yield Servers(listed[0].port, door_port, {ENGINE: engine.pid, DOOR: door.pid})
