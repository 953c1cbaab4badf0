"""The command line of the benchmarks."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import host

SHAPES = ("demo", "q05")
DTYPES = ("float32", "bfloat16")
# A name is leased for 10 s and renewed between two measurements.
MAX_SECONDS = 8.0
MAX_ROUNDS = 50


@dataclass(frozen=True, slots=True)
class Options:
    """`seconds` is how long one case of one round is measured; `dtypes` empty leaves the choice to the engine.

    `threads` of both sides, and `tokens` of each answer, are for the throughput.
    """

    names: Sequence[str]
    seconds: float = 2.0
    rounds: int = 3
    json: Path | None = None
    shape: str = "demo"
    dtypes: Sequence[str] = ()
    threads: int = 1
    tokens: int = 64

    @property
    def warm_up_s(self) -> float:
        return min(1.0, self.seconds / 2)


def parse(argv: Sequence[str] | None, known: Sequence[str]) -> Options:
    """The options in `argv`, with all `known` benchmarks where none is named. Ends the process at a bad one."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measures ModelEngine on this machine, over the loopback, with real processes. Every cell is "
        "min / median / max over the rounds. Run nothing else meanwhile.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(known)}; default: all")
    parser.add_argument(
        "--seconds", type=_between(0.1, MAX_SECONDS), default=2.0, help="for one case of one round (default 2)"
    )
    parser.add_argument("--rounds", type=whole(1, MAX_ROUNDS), default=3, help="turns of each case (default 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round's values there, too")
    parser.add_argument(
        "--shape",
        choices=SHAPES,
        default="demo",
        help="throughput: the demo model, or random weights in the shape of Qwen2.5-0.5B (needs 6 GB, and minutes)",
    )
    parser.add_argument("--dtype", choices=DTYPES, help="throughput: default as the engine chooses; both for q05")
    parser.add_argument(
        "--threads", type=whole(1, 1024), help="throughput: of both sides; default 1 for demo, every core for q05"
    )
    parser.add_argument("--tokens", type=whole(1, 512), default=64, help="throughput: of each answer (default 64)")
    given = parser.parse_args(argv)
    if unknown := [name for name in given.names if name not in known]:
        parser.error(f"no benchmark is called {unknown[0]!r}; known are {', '.join(known)}")
    dtypes = (given.dtype,) if given.dtype else () if given.shape == "demo" else DTYPES
    # The demo model is so small that a second thread costs more than it gives; the engine chooses one, too.
    threads = given.threads or (1 if given.shape == "demo" else host.cores())
    return Options(
        names=given.names or list(known),
        seconds=given.seconds,
        rounds=given.rounds,
        json=given.json,
        shape=given.shape,
        dtypes=dtypes,
        threads=threads,
        tokens=given.tokens,
    )


def _between(least: float, most: float) -> Callable[[str], float]:
    def number(text: str) -> float:
        value = float(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"must be from {least:g} to {most:g}")
        return value

    return number


def whole(least: int, most: int) -> Callable[[str], int]:
    """Reads a whole number in these bounds."""

    def number(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"must be from {least} to {most}")
        return value

    return number
