"""The words of the tasks, kept in YAML: how things are asked, and what the questions are filled with."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml
from demo.split import Language, Phrases

HERE = Path(__file__).parent


@cache
def read(name: str) -> Any:
    """One of the YAML files next to this module."""
    return yaml.safe_load((HERE / name).read_text(encoding="utf-8"))


def phrases(task: str) -> dict[str, dict[Language, Phrases]]:
    """How each kind of question of a task is asked."""
    kinds = read("phrases.yaml")[task]
    return {kind: {language: _phrases(asked[language.value]) for language in Language} for kind, asked in kinds.items()}


def items(name: str) -> tuple[str, ...]:
    """A list that is the same in both languages."""
    return tuple(read("words.yaml")[name])


def by_language(name: str) -> dict[Language, tuple[str, ...]]:
    """A list for each language."""
    return {language: tuple(read("words.yaml")[name][language.value]) for language in Language}


def _phrases(entry: dict[str, list[str]]) -> Phrases:
    return Phrases(tuple(entry["ask"]), tuple(entry["held_out"]))
