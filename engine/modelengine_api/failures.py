"""How each API words an error, by the path that was asked. Pure.

`doors.py` sends it as an HTTP answer; a stream that has begun ends with it, in the form that its API gives a stream.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from modelengine import errors, wire

Wording = Callable[[errors.ModelEngineError], Mapping[str, Any]]

OPENAI_PREFIX = "/v1/"
OLLAMA_PREFIX = "/api/"


def openai(failure: errors.ModelEngineError) -> dict[str, Any]:
    """OpenAI's error object; `param` is the field that is wrong."""
    fields = [str(detail["loc"]) for detail in failure.details if "loc" in detail]
    return {
        "error": {
            "message": failure.message,
            "type": _openai_type(failure.status),
            "param": fields[0] if fields else None,
            "code": failure.code,
        }
    }


def ollama(failure: errors.ModelEngineError) -> dict[str, Any]:
    return {"error": failure.message}


def wording(path: str) -> Wording:
    """How the API at this path words errors; the envelope, where it is none of another's."""
    if path.startswith(OPENAI_PREFIX):
        return openai
    return ollama if path.startswith(OLLAMA_PREFIX) else wire.error


def _openai_type(status: int) -> str:
    if status == 429:
        return "rate_limit_error"
    return "invalid_request_error" if status < 500 else "server_error"
