"""The command line of the benchmark beside the peers."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import host, processes
from bench.engine import points
from bench.engine.engines import ENGINES, ON_GPU
from bench.engine.points import Point
from bench.engine.shapes import SHAPES
from bench.options import whole

ROUNDS = 5
ATTEMPTS = 3
QUICK = (Point(points.SHORT, 1), Point(points.SHORT, 8))
RESULTS = processes.ROOT / "bench/results"
PLOT = processes.ROOT / "docs/engine-benchmark.svg"


@dataclass(frozen=True, slots=True)
class Options:
    """`json` and `plot` None write none: what is measured quickly, or in part, is no result to keep.

    `attempts` is how often a point may be measured in one round until nobody else uses the machine meanwhile.
    """

    engines: Sequence[str]
    shapes: Sequence[str]
    points: Sequence[Point]
    rounds: int
    threads: int
    device: str
    attempts: int
    json: Path | None
    plot: Path | None


def parse(argv: Sequence[str] | None, result: Path) -> Options:
    """The options in `argv`; `result` is where a whole run is written. Ends the process at a bad one."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.engine",
        description="Measures our engine beside transformers serve, llama.cpp and OpenVINO GenAI: the same prompts "
        "over HTTP, one server at a time, taking turns. The first run makes their environments and models (20 min). "
        "Run nothing else meanwhile.",
    )
    parser.add_argument("--quick", action="store_true", help="one round of few points, to see that everything works")
    known = ", ".join(ENGINES)
    parser.add_argument("--engines", type=_listed(ENGINES), help=f"which, with commas between; known: {known}")
    parser.add_argument("--shapes", type=_listed(SHAPES), help=f"which models: {', '.join(SHAPES)}")
    usual = ",".join(f"{point.chats}x{point.prompt}" for point in points.POINTS)
    parser.add_argument("--points", type=_points, help=f"chats and tokens of their prompts (default {usual})")
    parser.add_argument("--rounds", type=_count, help=f"turns of each (default {ROUNDS})")
    parser.add_argument("--threads", type=_count, default=host.cores(), help="of every engine (default: every core)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="of every engine (default cpu)")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="every round's values; a whole run writes them anyway"
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="an SVG; a whole run writes it anyway")
    given = parser.parse_args(argv)
    chose_part = given.quick or given.engines or given.shapes or given.points or given.rounds
    is_whole = given.device == "cpu" and not chose_part
    return Options(
        engines=given.engines or (tuple(ENGINES) if given.device == "cpu" else ON_GPU),
        shapes=given.shapes or tuple(SHAPES)[: 1 if given.quick else None],
        points=given.points or (QUICK if given.quick else points.POINTS),
        rounds=given.rounds or (1 if given.quick else ROUNDS),
        threads=given.threads,
        device=given.device,
        attempts=1 if given.quick else ATTEMPTS,
        json=given.json or (result if is_whole else None),
        plot=given.plot or (PLOT if is_whole else None),
    )


def _listed(known: Collection[str]) -> Callable[[str], tuple[str, ...]]:
    def names(text: str) -> tuple[str, ...]:
        chosen = tuple(text.split(","))
        if unknown := [name for name in chosen if name not in known]:
            raise argparse.ArgumentTypeError(f"nothing is called {unknown[0]!r}; known are {', '.join(known)}")
        return chosen

    return names


def _points(text: str) -> tuple[Point, ...]:
    try:
        return tuple(points.parse(word) for word in text.split(","))
    except ValueError as bad:
        raise argparse.ArgumentTypeError(str(bad)) from bad


_count = whole(1, 100)
