"""Ollama's `options`, and what else steers an answer, as the native ChatOptions. Pure.

The bounds are the native ones, which stand in `modelengine.chats` alone; a fault is told in Ollama's names.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from modelengine import errors
from modelengine.chats import AS_MUCH_AS_FITS, MAX_SEED, ChatOptions, ResponseFormat
from modelengine_api import invalid
from modelengine_api.ollama.calls import Call, Format, Think

NATIVE_NAMES: Mapping[str, str] = {
    "frequency_penalty": "frequency_penalty",
    "min_p": "min_p",
    "num_predict": "max_new_tokens",
    "presence_penalty": "presence_penalty",
    "repeat_penalty": "repetition_penalty",
    "seed": "seed",
    "stop": "stop",
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
}
OLLAMA_NAMES: Mapping[str, str] = {native: ollama for ollama, native in NATIVE_NAMES.items()}
# Ollama's -1 is "without end" and its -2 "until the context is full": no answer here is longer than the context, so
# they are the same, and so is saying nothing.
NUM_PREDICT_WITHOUT_END = (-1, -2)
# Ollama's `top_p` of 0 leaves the likeliest token alone, as a very small one does.
LEAST_TOP_P = 1e-6
# Another seed below 0 is as good as any.
RANDOM_SEED = -1
WHOLE = ("num_predict", "seed", "top_k")
THINK_LEVELS = ("low", "medium", "high", "max")

_adapter = TypeAdapter(ChatOptions)


def chat_options(call: Call) -> ChatOptions:
    """Raises InvalidRequest for a value that is out of bounds or of another type, naming the option."""
    given = {"num_predict": -1, **{name: value for name, value in (call.options or {}).items() if value is not None}}
    if given.get("seed") == RANDOM_SEED:
        del given["seed"]
    numbers = {native: _translated(name, given[name]) for name, native in NATIVE_NAMES.items() if name in given}
    if call.logprobs:
        numbers["top_logprobs"] = call.top_logprobs or 0
    shape, think = response_format(call.format), thinks(call.think)
    # An answer in a format begins with it: where both are asked for, the format is what a program waits for.
    return dataclasses.replace(_read(numbers), response_format=shape, think=None if shape and think else think)


def response_format(given: Format | None) -> ResponseFormat | None:
    """Raises InvalidRequest for a format that has no name."""
    if isinstance(given, dict):
        return ResponseFormat("json_schema", json_schema=given)
    if given not in (None, "", "json"):
        raise errors.InvalidRequest(f'format: must be "json" or a JSON schema, got {invalid.shown(given)}')
    return ResponseFormat("json_object") if given else None


def thinks(given: Think | None) -> bool | None:
    """Whether the model should think; how much is not in its caller's hands here. Raises InvalidRequest."""
    if isinstance(given, str) and given not in THINK_LEVELS:
        levels = ", ".join(f'"{level}"' for level in THINK_LEVELS)
        raise errors.InvalidRequest(f"think: must be true, false or one of {levels}, got {invalid.shown(given)}")
    return None if given is None else bool(given)


def ignored(call: Call) -> Iterator[str]:
    """What of the call has no effect, beside fields that are unknown: options of Ollama's own runner, mostly."""
    for name in call.options or {}:
        if name not in NATIVE_NAMES:
            yield f"options.{name}"
    if call.think and call.format:
        yield "think"
    elif isinstance(call.think, str):
        # That it thinks is honoured; how much is not.
        yield f"think={call.think}"
    if call.top_logprobs and not call.logprobs:
        yield "top_logprobs"


def _read(numbers: Mapping[str, Any]) -> ChatOptions:
    try:
        # Once more as JSON: only there are the native records strict and take a list.
        return _adapter.validate_json(json.dumps(numbers))
    except ValidationError as failure:
        found = [{**item, "loc": _ollama_loc(item["loc"])} for item in failure.errors(include_url=False)]
        raise invalid.explain(found) from failure


def _translated(name: str, value: Any) -> Any:
    # Some clients have no other numbers than floats.
    if name in WHOLE and isinstance(value, float) and value.is_integer():
        value = int(value)
    if name == "seed" and isinstance(value, int) and value < 0:
        return value & MAX_SEED
    if name == "num_predict":
        return _token_limit(value)
    if name == "top_p" and value == 0 and not isinstance(value, bool):
        return LEAST_TOP_P
    return value


def _token_limit(value: Any) -> Any:
    if value in NUM_PREDICT_WITHOUT_END:
        return AS_MUCH_AS_FITS
    if isinstance(value, int) and value < 1 and not isinstance(value, bool):
        raise errors.InvalidRequest(
            f"options.num_predict: must be at least 1, or -1 or -2 for as much as the context holds, got {value}"
        )
    return value


def _ollama_loc(loc: tuple[int | str, ...]) -> tuple[int | str, ...]:
    name = OLLAMA_NAMES.get(str(loc[0]))
    return loc if name is None else ("options", name, *loc[1:])
