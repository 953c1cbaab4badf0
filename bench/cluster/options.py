"""The command line of the benchmarks on a cluster."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.options import whole

MAX_SIZE = 3000


@dataclass(frozen=True, slots=True)
class Options:
    """`sizes` are numbers of ModelEngines, `namespaces` those over which they are spread; `steady_s` is how long
    nothing happens, `changes` how many pods' changes are timed, `seconds` how long look-ups are counted."""

    names: Sequence[str]
    rounds: int = 3
    sizes: Sequence[int] = (1, 100, 1000)
    namespaces: Sequence[int] = (1, 10)
    steady_s: float = 300.0
    changes: int = 100
    seconds: float = 2.0
    json: Path | None = None


def parse(argv: Sequence[str] | None, known: Sequence[str]) -> Options:
    """The options in `argv`, with all `known` benchmarks where none is named. Ends the process at a bad one."""
    usual = Options(known)
    parser = argparse.ArgumentParser(
        prog="python -m bench.cluster",
        description="Measures the operator and the front door on the tests' own Kubernetes. Every cell is "
        "min / median / max over the rounds. Run nothing else meanwhile.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(known)}; default: all")
    parser.add_argument("--quick", action="store_true", help="one small round, to see that everything works")
    parser.add_argument("--rounds", type=_count, help=f"of each (default {usual.rounds})")
    parser.add_argument("--sizes", type=_counts, help="scale: numbers of ModelEngines (default 1,100,1000)")
    parser.add_argument("--namespaces", type=_counts, help="scale: namespaces for them (default 1,10)")
    parser.add_argument("--steady", type=float, dest="steady_s", help="scale: seconds of rest in the last case (300)")
    parser.add_argument("--changes", type=_count, help=f"changes that are timed, per round (default {usual.changes})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round's values there, too")
    given = vars(parser.parse_args(argv))
    if unknown := [name for name in given["names"] if name not in known]:
        parser.error(f"no benchmark is called {unknown[0]!r}; known are {', '.join(known)}")
    if given.pop("quick"):
        usual = Options(known, rounds=1, sizes=(1, 20), namespaces=(1, 2), steady_s=10, changes=10, seconds=0.5)
    # What is not given stays as it is.
    return replace(usual, **{name: value for name, value in given.items() if value not in (None, [])})


def cases(sizes: Sequence[int], namespaces: Sequence[int]) -> list[tuple[int, int]]:
    """How many ModelEngines in how many namespaces; no namespace stays empty."""
    return [(size, spread) for size in sizes for spread in namespaces if spread <= size]


def _counts(text: str) -> tuple[int, ...]:
    return tuple(_count(word) for word in text.split(","))


_count = whole(1, MAX_SIZE)
