"""Runs benchmarks one after the other and prints a table of each: what the command lines share."""

from __future__ import annotations

import importlib
import json
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench import host, report
from bench.processes import BenchFailed
from bench.report import Table


def run(
    package: str,
    names: Sequence[str],
    options: Any,
    line: str,
    to: Path | None,
    failures: tuple[type[Exception], ...] = (BenchFailed,),
) -> int:
    """Each of `names` is a module of `package` with `run(options) -> tables`; `line` says what was chosen.

    `failures` are told in a word, others are mistakes of the bench itself. Gives the exit code.
    """
    # As Ctrl-C, so that what was started is ended, and what was written is removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    machine = host.look()
    print("\n".join(host.describe(machine)), flush=True)
    print(line, flush=True)
    results: dict[str, Any] = {}
    try:
        for name in names:
            results[name] = [report.to_json(table) for table in measure(f"{package}.{name}", options)]
    except failures as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        # Also what was measured before a failure.
        if to is not None:
            to.write_text(json.dumps({"host": asdict(machine), "benchmarks": results}, indent=1) + "\n")
    return 0


def measure(module: str, options: Any) -> list[Table]:
    print(f"measuring {module.rpartition('.')[2]} ...", file=sys.stderr, flush=True)
    tables: list[Table] = importlib.import_module(module).run(options)
    for table in tables:
        print(f"\n{report.render(table)}", flush=True)
    return tables
