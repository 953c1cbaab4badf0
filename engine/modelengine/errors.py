"""Every error that ModelEngine raises, as one tree.

The HTTP doors render an error as an envelope (`code`, message, details) with the error's status; the client turns
that envelope back into the same class. So an error keeps its type across the wire, and each class is written once.

    ModelEngineError
    ├── InvalidRequest      400  a field is wrong; `details` names each field and what is allowed
    ├── Unauthorized        401  no key, or one that is not known
    ├── Forbidden           403  the key, the page or the host may not do this
    ├── NotFound            404  no such name, method or route
    ├── TooSlow             408  the request did not come in whole in time
    ├── TooLarge            413  the body is over the limit
    ├── UnsupportedMedia    415  the body is compressed, or in parts
    ├── HeadersTooLarge     431  the request's head is over the limit
    ├── RateLimited         429  the key has used up what it may; `retry_after_s` says when to come again
    ├── Busy                429  every slot and the queue are taken; `retry_after_s` says when to come again
    ├── RequestFailed       500  this one request failed inside the engine; others go on
    ├── Unavailable         503  nothing serves the name now, or the server is stopping
    ├── WaitTimeout         504  the name did not appear in time
    ├── ConnectionFailed    503  nobody answers at the address, or it fell silent before the first byte
    ├── StreamBroken        502  the answer stopped before its final part
    ├── ModelLoadError      500  the model can't be loaded; the message says what to do
    └── PortTaken           500  the port is in use; the message says by what
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar


class ModelEngineError(Exception):
    """The root. `code` is a constant users can grep for, `status` the HTTP status that carries it."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500

    def __init__(
        self,
        message: str,
        *,
        details: Sequence[Mapping[str, Any]] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details = tuple(details)
        self.retry_after_s = retry_after_s


class InvalidRequest(ModelEngineError):
    code = "invalid_request"
    status = 400


class Unauthorized(ModelEngineError):
    code = "unauthorized"
    status = 401


class Forbidden(ModelEngineError):
    code = "forbidden"
    status = 403


class NotFound(ModelEngineError):
    code = "not_found"
    status = 404


class TooSlow(ModelEngineError):
    code = "too_slow"
    status = 408


class TooLarge(ModelEngineError):
    code = "too_large"
    status = 413


class UnsupportedMedia(ModelEngineError):
    code = "unsupported_media"
    status = 415


class HeadersTooLarge(ModelEngineError):
    code = "headers_too_large"
    status = 431


class RateLimited(ModelEngineError):
    code = "rate_limited"
    status = 429


class Busy(ModelEngineError):
    code = "busy"
    status = 429


class RequestFailed(ModelEngineError):
    code = "request_failed"
    status = 500


class Unavailable(ModelEngineError):
    code = "unavailable"
    status = 503


class WaitTimeout(ModelEngineError):
    code = "wait_timeout"
    status = 504


class ConnectionFailed(ModelEngineError):
    code = "connection_failed"
    status = 503


class StreamBroken(ModelEngineError):
    code = "stream_broken"
    status = 502


class ModelLoadError(ModelEngineError):
    code = "model_load_failed"


class PortTaken(ModelEngineError):
    code = "port_taken"


_CLASSES: tuple[type[ModelEngineError], ...] = (ModelEngineError, *ModelEngineError.__subclasses__())
BY_CODE: Mapping[str, type[ModelEngineError]] = {cls.code: cls for cls in _CLASSES}


def unknown_name(kind: str, asked: str, known: Iterable[str]) -> NotFound:
    """A NotFound that offers the nearest names: `no model 'qwen'; did you mean 'qwen3'? (known: demo, qwen3)`."""
    names = sorted(known)
    near = difflib.get_close_matches(asked.lower(), [name.lower() for name in names], n=1, cutoff=0.5)
    guess = next((name for name in names if near and name.lower() == near[0]), None)
    if guess is None:
        guess = next((name for name in names if asked and asked.lower() in name.lower()), None)
    hint = f"; did you mean {guess!r}?" if guess else ""
    return NotFound(f"no {kind} {asked!r}{hint} (known: {', '.join(names) or 'none'})")


def speaks_another(name: str, protocols: Iterable[str], asked: str) -> InvalidRequest:
    """For a name that is served, but not for this: `model: 'demo' speaks chat, not embed`."""
    return InvalidRequest(f"model: {name!r} speaks {' and '.join(sorted(protocols))}, not {asked}")
