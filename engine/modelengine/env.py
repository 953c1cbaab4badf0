"""Settings from environment variables: every server's `settings.py` reads its own with these.

Pure functions over a mapping. A bad value raises InvalidRequest that names the variable and what is allowed, so that
a server stops at its start and not in the middle of its work. An empty value counts as not set.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from modelengine import errors

# Set by `modelengine up` for the servers it starts: they end when their stdin does, so none outlives it.
EXIT_WITH_STDIN = "MODELENGINE_EXIT_WITH_STDIN"
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


def text(env: Mapping[str, str], name: str, default: str) -> str:
    return env.get(name, "").strip() or default


def integer(env: Mapping[str, str], name: str, default: int, *, at_least: int, at_most: int) -> int:
    given = text(env, name, "")
    if not given:
        return default
    try:
        value = int(given)
    except ValueError:
        value = at_least - 1
    if not at_least <= value <= at_most:
        raise _refused(name, f"a whole number from {at_least} to {at_most}", given)
    return value


def number(env: Mapping[str, str], name: str, default: float, *, at_least: float, at_most: float) -> float:
    given = text(env, name, "")
    if not given:
        return default
    try:
        value = float(given)
    except ValueError:
        value = math.nan
    if not at_least <= value <= at_most:
        raise _refused(name, f"a number from {at_least:g} to {at_most:g}", given)
    return value


def choice(env: Mapping[str, str], name: str, default: str, allowed: Sequence[str]) -> str:
    given = text(env, name, default)
    if given not in allowed:
        raise _refused(name, f"one of {', '.join(allowed)}", given)
    return given


def flag(env: Mapping[str, str], name: str) -> bool:
    return choice(env, name, "0", ("0", "1")) == "1"


def log_level(env: Mapping[str, str]) -> str:
    """MODELENGINE_LOG_LEVEL in capitals. Under `modelengine up` only warnings: its window belongs to the user."""
    default = "WARNING" if flag(env, EXIT_WITH_STDIN) else "INFO"
    name = "MODELENGINE_LOG_LEVEL"
    return choice({name: text(env, name, default).upper()}, name, default, LOG_LEVELS)


def _refused(name: str, allowed: str, given: str) -> errors.InvalidRequest:
    return errors.InvalidRequest(f"{name}: must be {allowed}, got {given[:100]!r}")
