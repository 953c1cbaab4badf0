"""`keep_alive`, how long a model should stay in memory: a number of seconds, or a duration as Go writes it. Pure.

A model's life is not in its callers' hands here, so all that follows from it is whether a call without a question says
that it loads or that it unloads.
"""

from __future__ import annotations

import math
import re

from modelengine import errors
from modelengine_api import invalid

UNIT_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
NUMBER = re.compile(r"[+-]?\d+(?:\.\d*)?", re.ASCII)
FORMS = 'must be a number of seconds, or a duration such as "5m" or "1h30m"; less than 0 is for ever'


def seconds(given: float | str) -> float:
    """Infinity for what is less than 0. Raises InvalidRequest."""
    value = _duration(given) if isinstance(given, str) else given
    if value is None or not math.isfinite(value):
        raise errors.InvalidRequest(f"keep_alive: {FORMS}, got {invalid.shown(given)}")
    return value if value >= 0 else math.inf


def _duration(text: str) -> float | None:
    """The seconds of a signed row of numbers with units; a number alone counts as seconds. None where it is neither."""
    if NUMBER.fullmatch(text):
        return float(text)
    sign, digits = (-1.0, text[1:]) if text.startswith("-") else (1.0, text.removeprefix("+"))
    parts = PART.findall(digits)
    if not parts or "".join(number + unit for number, unit in parts) != digits:
        return None
    return sign * sum(float(number) * UNIT_S[unit] for number, unit in parts)
