"""`python -m bench.engine`: rounds in which our engine and its peers take turns; prints tables, and which bars are met.

After each round everything so far is written, because a whole run takes more than an hour.
"""

from __future__ import annotations

import json
import re
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench import host, report, stats
from bench.engine import bars, options, plot, points, roofline, setup, turns
from bench.engine.engines import ENGINES, OURS, Place
from bench.engine.options import Options
from bench.engine.plot import Panel
from bench.engine.roofline import Machine
from bench.engine.shapes import SHAPES
from bench.engine.turns import Results
from bench.host import Host
from bench.processes import BenchFailed


def main(argv: Sequence[str] | None = None) -> int:
    # As Ctrl-C, so that what was started is ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    here = host.look()
    chosen = options.parse(argv, options.RESULTS / f"engine-{slug(here.cpu)}-{time.strftime('%Y-%m-%d')}.json")
    print("\n".join(host.describe(here)), flush=True)
    try:
        peers = prepare(chosen)
        machine = roofline.measure(chosen.threads, chosen.device)
        print(roofline.describe(machine), flush=True)
        results = measure(chosen, here, peers, machine)
    except BenchFailed as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    show(results)
    if chosen.plot is not None:
        chosen.plot.write_text(draw(here, results))
    return 0


def slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def prepare(chosen: Options) -> dict[str, str]:
    """Makes everything before anything is measured, and gives the versions of the peers."""
    for shape in chosen.shapes:
        for name in chosen.engines:
            ENGINES[name].start(shape, Place(device=chosen.device))
    return setup.versions()


def measure(chosen: Options, here: Host, peers: Mapping[str, str], machine: Machine) -> dict[str, Results]:
    results = {shape: Results() for shape in chosen.shapes}
    for number in range(chosen.rounds):
        for shape in chosen.shapes:
            for name in chosen.engines:
                print(f"round {number + 1}/{chosen.rounds}: {shape}, {name} ...", file=sys.stderr, flush=True)
                seed = f"{shape} {number}"
                results[shape].add(name, turns.take(ENGINES[name], shape, chosen, machine, seed))
        if chosen.json is not None:
            facts = {
                "host": asdict(here),
                "peers": peers,
                "roofline": asdict(machine),
                "threads": chosen.threads,
                "device": chosen.device,
            }
            write(chosen.json, facts, results)
    return results


def write(file: Path, facts: Mapping[str, Any], results: Mapping[str, Results]) -> None:
    found = {
        shape: {"tables": of.to_json(SHAPES[shape].title), "bars": bars.to_json(bars.judge(of.points))}
        for shape, of in results.items()
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({**facts, "shapes": found}, indent=1) + "\n")


def show(results: Mapping[str, Results]) -> None:
    for shape, of in results.items():
        for table in of.tables(SHAPES[shape].title):
            print(f"\n{report.render(table)}")
        print(f"\n{bars.render(SHAPES[shape].title, bars.judge(of.points))}", flush=True)


def draw(here: Host, results: Mapping[str, Results]) -> str:
    rows = {
        SHAPES[shape].title: [
            Panel(str(point), {name: stats.spread([s[bars.RATE] for s in rounds]) for name, rounds in engines.items()})
            for point, engines in of.points.items()
        ]
        for shape, of in results.items()
    }
    note = (
        f"{here.cores} cores, {here.cpu}. N x pM: N chats at once, prompts of M tokens, {points.NEW_TOKENS} new ones. "
        "Bars: medians; lines: least to most of the rounds. python -m bench.engine"
    )
    return plot.render("New tokens per second, all chats together", note, rows, OURS)


if __name__ == "__main__":
    raise SystemExit(main())
