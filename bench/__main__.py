"""`python -m bench [NAME ...]`: runs the benchmarks one after the other and prints a table of each."""

from __future__ import annotations

from collections.abc import Sequence

from bench import options, runner

# In the order in which they run: the quickest first. Each is a module with `run(options) -> tables`.
BENCHMARKS = ("lookups", "start", "http_layer", "throughput")


def main(argv: Sequence[str] | None = None) -> int:
    chosen = options.parse(argv, BENCHMARKS)
    line = f"rounds    {chosen.rounds}; {chosen.seconds:g} s for each case; cells are min / median / max"
    return runner.run("bench", chosen.names, chosen, line, chosen.json)


if __name__ == "__main__":
    raise SystemExit(main())
