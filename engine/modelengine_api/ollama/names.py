"""How Ollama's clients name models. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable

LATEST = ":latest"


def served(asked: str, known: Callable[[], Iterable[str]]) -> str:
    """The name that is meant: clients write `name:latest` for a name without a tag. `known` lists every name."""
    if not asked.endswith(LATEST):
        return asked
    names = set(known())
    bare = asked.removesuffix(LATEST)
    return bare if asked not in names and bare in names else asked
