"""OpenAI's answers held against the `openai` package's own models, more strictly than the package does it itself."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, TypeVar, get_args

from openai import BaseModel
from openai.types import Completion, responses
from openai.types.chat import ChatCompletionChunk

Model = TypeVar("Model", bound=BaseModel)

# By the type that each event has.
EVENTS: dict[str, type[BaseModel]] = {
    get_args(model.model_fields["type"].annotation)[0]: model
    for name, model in vars(responses).items()
    if name.endswith("Event") and isinstance(model, type)
}
# What other servers have added and clients read, though OpenAI's own models don't know it.
KNOWN_ADDITIONS = frozenset({"reasoning_content"})


def typed(cls: type[Model], raw: bytes | str) -> Model:
    """The JSON as a model of the package: no field is missing, of another type, or unknown to it."""
    record = cls.model_validate_json(raw, strict=True)
    unknown = set(_unknown(record)) - KNOWN_ADDITIONS
    assert not unknown, f"{cls.__name__} knows no {sorted(unknown)}: {raw!r}"
    return record


def events(body: bytes) -> list[str]:
    """The data of each server-sent event; every event has to be whole."""
    *blocks, rest = body.decode().split("\n\n")
    assert rest == "", f"the stream ends within an event: {rest!r}"
    lines = [line for block in blocks for line in block.split("\n") if not line.startswith("event: ")]
    assert all(line.startswith("data: ") for line in lines)
    return [line.removeprefix("data: ") for line in lines]


def chunks(body: bytes) -> list[ChatCompletionChunk]:
    """The chunks of a streamed chat that came to its end."""
    *data, done = events(body)
    assert done == "[DONE]"
    return [typed(ChatCompletionChunk, piece) for piece in data]


def completions(body: bytes) -> list[Completion]:
    """The parts of a streamed completion that came to its end."""
    *data, done = events(body)
    assert done == "[DONE]"
    return [_unfinished(piece) for piece in data]


def _unfinished(piece: str) -> Completion:
    """The package has no model of a part: OpenAI itself says null for a reason to end that isn't there yet."""
    data = json.loads(piece)
    reasons = [choice["finish_reason"] for choice in data["choices"]]
    for choice in data["choices"]:
        choice["finish_reason"] = choice["finish_reason"] or "stop"
    part = typed(Completion, json.dumps(data))
    for choice, reason in zip(part.choices, reasons, strict=True):
        choice.finish_reason = reason
    return part


def response_events(body: bytes) -> list[Any]:
    """The typed events of a streamed response, each named as its type says."""
    found = []
    for name, piece in zip(re.findall(r"^event: (.*)$", body.decode(), re.MULTILINE), events(body), strict=True):
        assert json.loads(piece)["type"] == name
        found.append(typed(EVENTS[name], piece))
    return found


def error_of(raw: bytes | str) -> dict[str, Any]:
    """An error object: OpenAI's package has no model of it; its exceptions read these four."""
    body = json.loads(raw)
    assert set(body) == {"error"}
    error: dict[str, Any] = body["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str)
    assert isinstance(error["type"], str)
    return error


def _unknown(value: Any) -> Iterator[str]:
    if isinstance(value, BaseModel):
        yield from value.model_extra or ()
        for name in type(value).model_fields:
            yield from _unknown(getattr(value, name))
    if isinstance(value, list):
        for item in value:
            yield from _unknown(item)
