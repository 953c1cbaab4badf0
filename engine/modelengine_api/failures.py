"""How each API words an error, by the path that was asked. Pure.

`doors.py` sends it as an HTTP answer; a stream that has begun ends with it, in the form that its API gives a stream.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from modelengine import errors, wire

Wording = Callable[[errors.ModelEngineError], Mapping[str, Any]]

OPENAI_PREFIXES = ("/v1/", "/v2/")
OLLAMA_PREFIX = "/api/"

# What OpenAI's clients know an error by; an error with another status keeps our own code.
OPENAI_CODES: Mapping[int, str] = {401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded"}
OPENAI_KINDS: Mapping[str, str] = {
    "missing": "missing_required_parameter",
    "json_invalid": "invalid_json",
    "context_length_exceeded": "context_length_exceeded",
}
OPENAI_TYPES: Mapping[int, str] = {403: "permission_error", 429: "rate_limit_error"}
NAMED_FIELD = re.compile(r"^([a-z_]+[\w.\[\]-]*): ")
# Rerank's native options stand at the top of what clients send; all else is in the request's own names already.
NATIVE_OPTIONS = "options."


class NoRoute(errors.NotFound):
    """Nothing is served at the path, as opposed to a model that is not."""


def openai(failure: errors.ModelEngineError) -> dict[str, Any]:
    """OpenAI's error object; `param` is the field that is wrong."""
    return {
        "error": {
            "message": failure.message.removeprefix(NATIVE_OPTIONS),
            "type": _openai_type(failure.status),
            "param": _openai_field(failure),
            "code": _openai_code(failure),
        }
    }


def ollama(failure: errors.ModelEngineError) -> dict[str, Any]:
    return {"error": failure.message}


def wording(path: str) -> Wording:
    """How the API at this path words errors; the envelope, where it is none of another's."""
    if path.startswith(OPENAI_PREFIXES):
        return openai
    return ollama if path.startswith(OLLAMA_PREFIX) else wire.error


def _openai_type(status: int) -> str:
    return OPENAI_TYPES.get(status) or ("invalid_request_error" if status < 500 else "server_error")


def _openai_field(failure: errors.ModelEngineError) -> str | None:
    if isinstance(failure, errors.NotFound):
        return None if isinstance(failure, NoRoute) else "model"
    if not isinstance(failure, errors.InvalidRequest):
        return None
    named = [str(detail["loc"]) for detail in failure.details if "loc" in detail]
    named += NAMED_FIELD.findall(failure.message.removeprefix(NATIVE_OPTIONS))
    # An error of the body as a whole is none of a field.
    return named[0].removeprefix(NATIVE_OPTIONS) if named and named[0] != "body" else None


def _openai_code(failure: errors.ModelEngineError) -> str:
    if isinstance(failure, NoRoute):
        return "unknown_url"
    if isinstance(failure, errors.InvalidRequest):
        return _openai_kind(str(next((detail.get("type") for detail in failure.details), "")))
    return OPENAI_CODES.get(failure.status, failure.code)


def _openai_kind(kind: str) -> str:
    """What is wrong with a field, from our name for it, which is mostly pydantic's."""
    if kind in OPENAI_KINDS:
        return OPENAI_KINDS[kind]
    return "invalid_type" if kind.endswith("_type") else "invalid_value"
