"""The response header that lists what a request asked for and did not get. The foreign APIs send it. Pure.

Their clients send fields that nobody here could honour, and would break on a refusal; so those are accepted, and named.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from typing import Any

HEADER = "x-modelengine-ignored"
# Of a record that takes fields which nobody knows, and keeps them beside its own.
OPEN: Mapping[str, Any] = {"extra": "allow", "strict": True}
MAX_NAMES = 32
MAX_NAME_CHARACTERS = 64
# A body may hold a million fields; so many are looked at.
MAX_LOOKED_AT = 1024
UNSAFE = re.compile(r"[^A-Za-z0-9_.\-\[\]=$]")


def headers(names: Iterable[str]) -> dict[str, str]:
    """The header that names these fields, sorted and each once, `...` for what is too much; none for no fields."""
    looked_at = itertools.islice(names, MAX_LOOKED_AT)
    unique = sorted({UNSAFE.sub("?", name[:MAX_NAME_CHARACTERS]) for name in looked_at})
    if not unique:
        return {}
    shown = unique if len(unique) <= MAX_NAMES else [*unique[:MAX_NAMES], "..."]
    return {HEADER: ", ".join(shown)}
