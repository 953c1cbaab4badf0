"""Embeddings as OpenAI's and Ollama's clients ask for them and read them, from and to the native protocol. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from modelengine import errors, wire
from modelengine.vectors import EmbedOptions, EmbedRequest
from modelengine_api.invalid import refused
from modelengine_api.retrieval.calls import EmbedCall, EmbeddingsCall, OldEmbeddingsCall

# A native error names its field at the front.
NATIVE_FIELD = re.compile(r"(inputs|options\.)(\[\d+\])?(\w*)(?=: )")


def from_openai(call: EmbeddingsCall) -> EmbedRequest:
    options = EmbedOptions(dimensions=call.dimensions, truncate=call.truncate, prompt_name=call.prompt_name)
    return _request(call.model, call.input, options)


def to_openai(call: EmbeddingsCall, answer: Mapping[str, Any]) -> dict[str, Any]:
    vectors = answer["vectors"] if call.encoding_format == "base64" else _numbers(answer)
    tokens = answer["prompt_tokens"]
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(vectors)],
        "model": call.model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def from_ollama(call: EmbedCall, model: str) -> EmbedRequest | None:
    """`model` is the name that is served. None where there is no text: whether the model is there is all that is asked.
    As Ollama's, the vectors have the length 1."""
    options = EmbedOptions(dimensions=call.dimensions, truncate=call.truncate, normalize=True)
    return _request(model, call.input, options) if call.input else None


def to_ollama(call: EmbedCall, answer: Mapping[str, Any] | None, duration_ns: int) -> dict[str, Any]:
    return {
        "model": call.model,
        "embeddings": [] if answer is None else _numbers(answer),
        "total_duration": duration_ns,
        # Nobody waits for a model to load here: one that is not loaded is not listed.
        "load_duration": 0,
        "prompt_eval_count": 0 if answer is None else answer["prompt_tokens"],
    }


def from_old_ollama(call: OldEmbeddingsCall, model: str) -> EmbedRequest | None:
    """As `from_ollama`, for a vector of the length that the model gives it."""
    return _request(model, call.prompt, EmbedOptions(truncate=True)) if call.prompt else None


def to_old_ollama(answer: Mapping[str, Any] | None) -> dict[str, Any]:
    return {"embedding": [] if answer is None else _numbers(answer)[0]}


def reworded(failure: errors.InvalidRequest, given: str | Sequence[str], field: str) -> errors.InvalidRequest:
    """The native error with the names of the call's own fields; `given` is what `field` had."""
    found = NATIVE_FIELD.match(failure.message)
    if found is None:
        return failure
    kind, index, option = found.groups(default="")
    name = option if kind == "options." else field + ("" if isinstance(given, str) else index)
    rule = failure.message[found.end() + 2 :]
    return refused(name, rule)


def _request(model: str, given: str | Sequence[str], options: EmbedOptions) -> EmbedRequest:
    # As base64, which is a quarter of the bytes between front door and engine, and little to read.
    return EmbedRequest(model, (given,) if isinstance(given, str) else tuple(given), options, encoding="base64")


def _numbers(answer: Mapping[str, Any]) -> list[list[float]]:
    return [wire.decode_vector(vector) for vector in answer["vectors"]]
