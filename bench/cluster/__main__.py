"""`python -m bench.cluster [NAME ...]`: runs the benchmarks that need a Kubernetes and prints the tables of each.

The cluster is that of the tests (`tests/cluster/harness`): brought up here, in a network of its own, and removed again.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench import runner
from bench.cluster import options
from bench.processes import BenchFailed
from cluster.harness import control_plane, places, processes

# In the order in which they run. Those of the first line need no node; each node is waited for while others have one.
BENCHMARKS = ("registry", "scale", "apply", "kills")


def main(argv: Sequence[str] | None = None) -> int:
    chosen = options.parse(argv, BENCHMARKS)
    line = f"rounds    {chosen.rounds}; cells are min / median / max"
    failures = (BenchFailed, control_plane.CommandFailed, processes.Failed, places.Missing)
    return runner.run("bench.cluster", chosen.names, chosen, line, chosen.json, failures)


if __name__ == "__main__":
    raise SystemExit(main())
