"""`python -m bench [NAME ...]`: runs the benchmarks one after the other and prints a table of each."""

from __future__ import annotations

import importlib
import json
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from bench import host, options, report
from bench.options import Options
from bench.processes import BenchFailed
from bench.report import Table

# In the order in which they run: the quickest first. Each is a module with `run(options) -> tables`.
BENCHMARKS = ("lookups", "start", "http_layer", "throughput")


def main(argv: Sequence[str] | None = None) -> int:
    chosen = options.parse(argv, BENCHMARKS)
    # As Ctrl-C, so that what was started is ended, and what was written is removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    machine = host.look()
    print("\n".join(host.describe(machine)), flush=True)
    print(f"rounds    {chosen.rounds}; {chosen.seconds:g} s for each case; cells are min / median / max", flush=True)
    results: dict[str, Any] = {}
    try:
        for name in chosen.names:
            tables = measure(name, chosen)
            results[name] = [report.to_json(table) for table in tables]
    except BenchFailed as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        # Also what was measured before a failure.
        if chosen.json is not None:
            chosen.json.write_text(json.dumps({"host": asdict(machine), "benchmarks": results}, indent=1) + "\n")
    return 0


def measure(name: str, chosen: Options) -> list[Table]:
    print(f"measuring {name} ...", file=sys.stderr, flush=True)
    tables: list[Table] = importlib.import_module(f"bench.{name}").run(chosen)
    for table in tables:
        print(f"\n{report.render(table)}", flush=True)
    return tables


if __name__ == "__main__":
    raise SystemExit(main())
