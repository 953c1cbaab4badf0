"""The response header that lists what a request asked for and did not get. The foreign APIs send it. Pure.

Their clients send fields that nobody here could honour, and would break on a refusal; so those are accepted, and named.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

HEADER = "x-modelengine-ignored"
MAX_NAMES = 32
MAX_NAME_CHARACTERS = 64
UNSAFE = re.compile(r"[^A-Za-z0-9_.\-\[\]=$]")


def headers(names: Iterable[str]) -> dict[str, str]:
    """The header that names these fields, sorted and each once; no header where there are none."""
    unique = sorted({UNSAFE.sub("?", name[:MAX_NAME_CHARACTERS]) for name in names})
    if not unique:
        return {}
    more = [f"and {len(unique) - MAX_NAMES} more"] if len(unique) > MAX_NAMES else []
    return {HEADER: ", ".join([*unique[:MAX_NAMES], *more])}
