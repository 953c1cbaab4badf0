"""The native answer as OpenAI's answers are made of it: the parts of a stream, and what both APIs count and name alike.

A part is a ChatChunk and a whole answer a ChatResponse, both as plain data: they are read once for each token, so no
record is made of them.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from modelengine import errors, wire

Part = Mapping[str, Any]

# How a stream ends that came to its end.
DONE = b"data: [DONE]\n\n"
# JSON can't say minus infinity; OpenAI says this of a token that is next to impossible.
LEAST_LOGPROB = -9999.0


class Batch(NamedTuple):
    """What some lines say: parts, and the error that came after them."""

    parts: Sequence[Part]
    failure: errors.ModelEngineError | None = None


def of(lines: bytes) -> Batch:
    """Reads whole lines. What came before an error is not lost by it."""
    parts: list[Part] = []
    for line in lines.split(b"\n"):
        if not line:
            continue
        try:
            envelope = orjson.loads(line)
            part = envelope["msg"] if envelope["state"] == "ok" else wire.unwrap(envelope)
            # What is no part has no such field.
            part["done"]
            parts.append(part)
        except errors.ModelEngineError as failure:
            return Batch(parts, failure)
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return Batch(parts, errors.StreamBroken("a line of the answer is no part of one"))
    return Batch(parts)


def new_id(prefix: str) -> str:
    return f"{prefix}{uuid.uuid4().hex}"


def usage(answers: Sequence[Part]) -> dict[str, Any]:
    """What the answers to one prompt cost together, from their whole forms or last parts. The prompt counts once."""
    prompt = max(answer["prompt_length"] for answer in answers)
    completion = sum(answer["response_length"] for answer in answers)
    # Where several answers were made at once, all but the first find the prompt known.
    cached = min(answer.get("cached_tokens") or 0 for answer in answers)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def logprobs(part: Part) -> list[dict[str, Any]] | None:
    """How likely the tokens of the part's content were, as both APIs write it; None where it doesn't say."""
    given = of_content(part)
    return None if given is None else [{**_token(token), "top_logprobs": _top(token)} for token in given]


def of_content(part: Part) -> Sequence[Mapping[str, Any]] | None:
    """Its native logprobs without those of thoughts and calls, which OpenAI's APIs have no place for."""
    given = part.get("logprobs")
    return None if given is None else [token for token in given if token.get("is_content", True)]


def _top(token: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [_token(other) for other in token.get("top") or ()]


def _token(token: Mapping[str, Any]) -> dict[str, Any]:
    return {"token": token["token"], "logprob": least(token["logprob"]), "bytes": token.get("bytes")}


def least(logprob: float | None) -> float:
    return LEAST_LOGPROB if logprob is None else max(logprob, LEAST_LOGPROB)


def tool_calls(part: Part) -> list[dict[str, Any]]:
    """The complete calls of the part, without the number that a stream gives them."""
    return [{key: value for key, value in call.items() if key != "index"} for call in part.get("tool_calls") or ()]
