"""Our engine beside its peers, run by `python -m bench.engine` (`make bench-engine`): the same work over HTTP."""
