"""Benchmarks on the test cluster: `python -m bench.cluster` with tests/ on the PYTHONPATH, on Linux and as root."""
