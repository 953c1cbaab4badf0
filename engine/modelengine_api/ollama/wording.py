"""An engine's errors in Ollama's names, and in the words that its clients look for. Pure.

Clients search the text of an error for "not found" and "does not support thinking"; what we say follows.
"""

from __future__ import annotations

from collections.abc import Sequence

from modelengine import errors
from modelengine_api.ollama.options import OLLAMA_NAMES

# How a native message begins, and with what the field's own name is told. The first that fits is taken.
FIELDS: Sequence[tuple[str, str]] = (
    ("options.response_format.json_schema", "format"),
    ("options.response_format", "format"),
    ("options.think", "think"),
    ("options.top_logprobs", "top_logprobs"),
    *((f"options.{native}", f"options.{name}") for native, name in OLLAMA_NAMES.items()),
)


def worded(failure: errors.NotFound | errors.InvalidRequest, asked: str, *, of_prompt: bool) -> errors.ModelEngineError:
    """The error for who asked for this model; `of_prompt` where the messages were a prompt."""
    if isinstance(failure, errors.NotFound):
        return errors.NotFound(f"model {asked!r} not found: {failure.message}")
    message = _renamed(failure.message, of_prompt)
    if message.startswith("think:"):
        message = f"{asked!r} does not support thinking: {message}"
    return errors.InvalidRequest(message, details=failure.details)


def _renamed(message: str, of_prompt: bool) -> str:
    fields = (("messages", "prompt"), *FIELDS) if of_prompt else FIELDS
    for native, name in fields:
        if message.startswith(native):
            return name + message.removeprefix(native)
    return message
