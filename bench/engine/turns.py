"""One engine's turn: its server is started, warmed, asked at every point, and ended. And what all turns gave."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from bench import processes, report
from bench.engine import accounts, client, engines, points, roofline
from bench.engine.client import Measured, Work
from bench.engine.engines import Engine, Launch, Place
from bench.engine.options import Options
from bench.engine.points import NEW_TOKENS, Point
from bench.engine.roofline import Machine
from bench.engine.shapes import SHAPES
from bench.processes import Child
from bench.report import Table
from bench.stats import Sample

WARM_UP_TOKENS = 4
# Above this share of the machine others change the numbers.
QUIET_PERCENT = 10.0
# A server that loads a model answers nothing, or that it is not ready.
START_S = 300.0
POINT_NOTES = (
    f"chats sent at once, greedy answers of {NEW_TOKENS} tokens, streamed; every engine counted the tokens of prompts",
    "and answers itself. tok/s: all new tokens from the first request to the last end. decode: those after the first",
    "of each answer, from the first text of any. first: time to the first text, of the middle and of the last chat.",
    "roofline: decode as a share of what reading the weights once a step, or multiplying them, allows.",
    "others: the share of the machine that neither server nor client used; "
    f"above {QUIET_PERCENT:g} % it is tried again.",
)
MEMORY_NOTES = (
    "the most that the server had at once, from its start to its end; every engine has room for "
    f"{engines.SEQUENCES} x {engines.CONTEXT} tokens.",
    "RssAnon: what it allocated. VmHWM: with files that it mapped, which is its weights where it maps them.",
)


@dataclass(frozen=True, slots=True)
class Turn:
    points: Mapping[Point, Sample]
    memory: Sample


def take(engine: Engine, shape: str, options: Options, machine: Machine, seed: str) -> Turn:
    """Raises BenchFailed where the server ends, or an answer is not the expected one."""
    port = processes.free_port()
    launch = engine.start(shape, Place(port, options.threads, options.device))
    # What servers say on stdout goes where their complaints go: nobody reads the pipe.
    argv = ("sh", "-c", 'exec "$@" >&2', "sh", *launch.argv)
    with processes.running(argv, **launch.settings) as server, accounts.watching(server.pid) as memory:
        processes.wait_answer(server, port, launch.ready, START_S)
        for point in points.warm_ups(options.points):
            ask(server, launch, port, point, f"warm {seed}", WARM_UP_TOKENS)
        found = {}
        for point in options.points:
            sample = least_disturbed(
                partial(ask, server, launch, port, point, f"{seed} {attempt}", NEW_TOKENS)
                for attempt in range(options.attempts)
            )
            weights = SHAPES[shape].weights
            roof = roofline.bound(machine, engine.arithmetic, launch.weight_bytes, weights, point.chats)
            found[point] = {**sample, "roofline %": sample["decode tok/s"] / roof * 100}
        return Turn(found, {"RssAnon MB": memory.anonymous, "VmHWM MB": memory.whole})


def least_disturbed(attempts: Iterable[Callable[[], Measured]]) -> Sample:
    """The first that others left alone, else the one that they disturbed least. What it measured does not matter."""
    found: list[Sample] = []
    for attempt in attempts:
        found.append(client.sample(attempt()))
        if found[-1]["others %"] <= QUIET_PERCENT:
            break
    return min(found, key=lambda sample: sample["others %"])


def ask(server: Child, launch: Launch, port: int, point: Point, seed: str, new_tokens: int) -> Measured:
    waves = [engines.bodies(launch, prompts, new_tokens) for prompts in points.prompts(point, seed)]
    work = Work(port, launch.path, server.pid, waves, point.prompt, new_tokens)
    try:
        return client.run(work)
    finally:
        server.check_alive()


@dataclass(slots=True)
class Results:
    """Of one shape: by point and by engine, what each round gave; and each engine's memory."""

    points: dict[Point, dict[str, list[Sample]]] = field(default_factory=dict)
    memory: dict[str, list[Sample]] = field(default_factory=dict)

    def add(self, engine: str, turn: Turn) -> None:
        for point, sample in turn.points.items():
            self.points.setdefault(point, {}).setdefault(engine, []).append(sample)
        self.memory.setdefault(engine, []).append(turn.memory)

    def tables(self, shape: str) -> list[Table]:
        """The notes of the first hold for all points."""
        notes = [POINT_NOTES, *[()] * len(self.points)]
        found = [
            Table(f"{shape}, {point}", note, rounds)
            for note, (point, rounds) in zip(notes, self.points.items(), strict=False)
        ]
        return [*found, Table(f"{shape}, memory", MEMORY_NOTES, self.memory)]

    def to_json(self, shape: str) -> list[dict[str, Any]]:
        return [report.to_json(table) for table in self.tables(shape)]
