"""The command line of the benchmark of the front door."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import processes
from bench.gateway.proxies import PROXIES
from bench.options import whole

RESULTS = processes.ROOT / "bench/results"
ROUNDS = 5
STREAMS = (1000, 2000)
PARTS = 30


@dataclass(frozen=True, slots=True)
class Options:
    """`streams` are numbers of streams that are open at once, each of `parts` parts; `json` None writes nothing."""

    proxies: Sequence[str]
    streams: Sequence[int]
    parts: int
    rounds: int
    json: Path | None


def parse(argv: Sequence[str] | None, result: Path) -> Options:
    """The options in `argv`; `result` is where a whole run is written. Ends the process at a bad one."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.gateway",
        description="Measures the front door beside Go's reverse proxy and a FastAPI proxy: the same streams, compared "
        "part by part with what the engines said, taking turns. Needs `go`. Run nothing else meanwhile.",
    )
    parser.add_argument("--quick", action="store_true", help="one round of 200 streams, to see that everything works")
    parser.add_argument("--proxies", nargs="+", choices=PROXIES, metavar="NAME", help=f"which: {', '.join(PROXIES)}")
    parser.add_argument("--streams", nargs="+", type=whole(1, 20_000), help=f"open at once (default {STREAMS})")
    parser.add_argument("--parts", type=whole(1, 1000), default=PARTS, help=f"of each stream (default {PARTS})")
    parser.add_argument("--rounds", type=whole(1, 50), help=f"turns of each (default {ROUNDS})")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="every round's values; a whole run writes them anyway"
    )
    given = parser.parse_args(argv)
    return Options(
        proxies=_in_order(given.proxies or PROXIES),
        streams=given.streams or ((200,) if given.quick else STREAMS),
        parts=given.parts,
        rounds=given.rounds or (1 if given.quick else ROUNDS),
        json=given.json or (None if given.quick or given.proxies or given.streams or given.rounds else result),
    )


def _in_order(chosen: Collection[str]) -> tuple[str, ...]:
    return tuple(name for name in PROXIES if name in chosen)
