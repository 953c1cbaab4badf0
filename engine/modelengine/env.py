"""Settings from environment variables: every server's `settings.py` reads its own with these.

Pure functions over a mapping. A bad value raises InvalidRequest that names the variable and what is allowed, so that
a server stops at its start and not in the middle of its work. An empty value counts as not set.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from modelengine import errors

# Set by `modelengine up` for the servers it starts: they end when their stdin does, so none outlives it.
EXIT_WITH_STDIN = "MODELENGINE_EXIT_WITH_STDIN"
NAMESPACE = re.compile("[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
METRICS_PORT = "MODELENGINE_METRICS_PORT"
# Where the front door, the operator and the engines of a cluster show their metrics.
DEFAULT_METRICS_PORT = 9528
OFF = "off"


class LogFormat(StrEnum):
    """Lines for people, or JSON for what collects them."""

    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class MetricsPort:
    """0 is any free one. What was only the default is done without where it is taken."""

    number: int
    is_asked_for: bool = True


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


def words(env: Mapping[str, str], name: str) -> tuple[str, ...]:
    """A comma list, each once, in the order given."""
    parts = (part.strip() for part in text(env, name, "").split(","))
    return tuple(dict.fromkeys(part for part in parts if part))


def namespaces(env: Mapping[str, str], name: str) -> tuple[str, ...]:
    """A comma list of names of namespaces, as `words`. Raises InvalidRequest for what can be none."""
    found = words(env, name)
    for namespace in found:
        if not NAMESPACE.fullmatch(namespace):
            raise _refused(name, "namespaces with commas between", namespace)
    return found


def flag(env: Mapping[str, str], name: str) -> bool:
    return choice(env, name, "0", ("0", "1")) == "1"


def log_level(env: Mapping[str, str]) -> str:
    """MODELENGINE_LOG_LEVEL in capitals. Under `modelengine up` only warnings: its window belongs to the user."""
    default = "WARNING" if flag(env, EXIT_WITH_STDIN) else "INFO"
    name = "MODELENGINE_LOG_LEVEL"
    return choice({name: text(env, name, default).upper()}, name, default, LOG_LEVELS)


def log_format(env: Mapping[str, str], default: LogFormat = LogFormat.TEXT) -> LogFormat:
    return LogFormat(choice(env, "MODELENGINE_LOG_FORMAT", default, tuple(LogFormat)))


def metrics_port(env: Mapping[str, str], default: int | None = None) -> MetricsPort | None:
    """None: no metrics are served."""
    given = text(env, METRICS_PORT, "")
    if not given:
        return None if default is None else MetricsPort(default, is_asked_for=False)
    if given == OFF:
        return None
    if not given.isdecimal() or not given.isascii() or int(given) > 65535:
        raise _refused(METRICS_PORT, f"a port from 0 to 65535 or {OFF}", given)
    return MetricsPort(int(given))


def _refused(name: str, allowed: str, given: str) -> errors.InvalidRequest:
    return errors.InvalidRequest(f"{name}: must be {allowed}, got {given[:100]!r}")
