"""Answers beside the types of the `ollama` package: what its types do not know, and what they have and did not get."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

# What Ollama's server sends and its Python package leaves out of the types.
SENT_BY_OLLAMA = {
    "models.name",
    "message.tool_calls.id",
    "message.tool_calls.function.index",
    "logprobs.bytes",
    "logprobs.top_logprobs.bytes",
}


def surplus(cls: type[BaseModel], answer: Mapping[str, Any]) -> set[str]:
    """The paths of fields that neither the type nor Ollama's own server has."""
    read = cls.model_validate(answer).model_dump(by_alias=True)
    return set(_paths(answer)) - set(_paths(read)) - SENT_BY_OLLAMA


def lacking(cls: type[BaseModel], answer: Mapping[str, Any]) -> set[str]:
    """The paths of fields that the type has and the answer has not."""
    read = cls.model_validate(answer).model_dump(by_alias=True)
    return set(_paths(read)) - set(_paths(answer))


def _paths(value: Any, at: str = "") -> Iterator[str]:
    if isinstance(value, list | tuple):
        for item in value:
            yield from _paths(item, at)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield f"{at}{key}"
            yield from _paths(inner, f"{at}{key}.")
