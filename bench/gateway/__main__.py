"""`python -m bench.gateway`: rounds in which the front door and other proxies take turns; prints tables and bars."""

from __future__ import annotations

import json
import resource
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from bench import host, report
from bench.engine.__main__ import slug
from bench.gateway import bars, options, proxies, turns
from bench.gateway.options import Options
from bench.gateway.turns import Scenario
from bench.host import Host
from bench.processes import BenchFailed
from bench.report import Table
from bench.stats import Rounds, Sample

STREAM_NOTES = (
    f"streams that begin evenly, {turns.STREAMS_PER_S} in a second, from an engine that says the first part at once "
    f"and the others {turns.PAUSE_S * 1e3:g} ms apart.",
    "Every part of every stream was compared with what the engine said. CPU of the proxy's process for each part, from",
    "when all streams were open until the first ended; time from a request to its first part; the most memory.",
)
SHORT_NOTES = ("whole answers of some 150 bytes, one after the other on each connection.",)


def main(argv: Sequence[str] | None = None) -> int:
    # As Ctrl-C, so that what was started is ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    here = host.look()
    chosen = options.parse(argv, options.RESULTS / f"gateway-{slug(here.cpu)}-{time.strftime('%Y-%m-%d')}.json")
    print("\n".join(host.describe(here)), flush=True)
    raise_open_files()
    try:
        results = measure(chosen, here)
    except BenchFailed as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    for name, rounds in results.items():
        print(f"\n{report.render(table(name, rounds))}")
    print(f"\n{bars.render(bars.judge(results))}", flush=True)
    return 0


def raise_open_files() -> None:
    """A proxy has two sockets for each stream; what is started inherits the limit."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def measure(chosen: Options, here: Host) -> dict[str, Rounds]:
    scenarios = [*(Scenario(streams, chosen.parts) for streams in chosen.streams), Scenario(None)]
    results: dict[str, dict[str, list[Sample]]] = {str(scenario): {} for scenario in scenarios}
    with proxies.built() as binary, proxies.upstream(binary, turns.PAUSE_S) as engine:
        for number in range(chosen.rounds):
            for scenario in scenarios:
                for proxy in chosen.proxies:
                    print(f"round {number + 1}/{chosen.rounds}: {scenario}, {proxy} ...", file=sys.stderr, flush=True)
                    found = turns.take(proxy, scenario, binary, engine)
                    results[str(scenario)].setdefault(proxy, []).append(found)
            if chosen.json is not None:
                write(chosen.json, here, results)
    return dict[str, Rounds](results)


def table(name: str, rounds: Rounds) -> Table:
    return Table(f"gateway: {name}", STREAM_NOTES if "streams" in name else SHORT_NOTES, rounds)


def write(file: Path, here: Host, results: Mapping[str, Rounds]) -> None:
    tables = [report.to_json(table(name, rounds)) for name, rounds in results.items()]
    found = {"host": asdict(here), "tables": tables, "bars": bars.to_json(bars.judge(results))}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
