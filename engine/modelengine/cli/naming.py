"""From what the user typed to a served name: exact, or the only one that begins so."""

from __future__ import annotations

from collections.abc import Sequence

from modelengine import errors


def match(typed: str, names: Sequence[str]) -> str:
    """Raises NotFound with the nearest name, or with the names that it could be."""
    if typed in names:
        return typed
    begins = sorted(name for name in names if name.lower().startswith(typed.lower()))
    if len(begins) == 1:
        return begins[0]
    if begins and typed:
        raise errors.NotFound(f"{typed!r} could be any of {', '.join(begins)}")
    raise errors.unknown_name("model", typed, names)
