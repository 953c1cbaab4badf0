"""Benchmarks of ModelEngine, run by `python -m bench` (`make bench`): real processes, loopback only, a few minutes."""
