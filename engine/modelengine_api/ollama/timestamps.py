"""Instants as Ollama writes them: RFC 3339 in UTC. Pure; the clock is a parameter."""

from __future__ import annotations

import time

NS = 1_000_000_000
# What Go's clients take for "never set", and what no client can take for a date.
UNKNOWN = "0001-01-01T00:00:00Z"
# The last second that nanoseconds since 1970 can say in 64 bits: a model that nobody will put away.
NEVER = "2262-04-11T23:47:16Z"


class Stamps:
    """Writes instants down to the nanosecond; those within one second share the work."""

    def __init__(self) -> None:
        self._second = -1
        self._written = ""

    def stamp(self, now_ns: int) -> str:
        """`2026-11-26T17:12:52.000000001Z` for nanoseconds since 1970."""
        second, rest = divmod(now_ns, NS)
        if second != self._second:
            self._second, self._written = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._written}.{rest:09d}Z"


def to_the_second(now_s: float) -> str:
    """`2026-11-26T17:12:52Z` for seconds since 1970."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now_s))
