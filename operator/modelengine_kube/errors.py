"""What the API server answers when it does not do what was asked, as one tree.

KubeError               any answer that is no success
├── NotFound            404
├── Conflict            409  somebody else wrote meanwhile, or it exists already
├── Gone                410  the resource version is too old: list again
├── Forbidden           401, 403  the rights are missing, or a quota or a policy says no
│   └── Terminating     403  the namespace is being deleted, and nothing new is taken into it
├── Invalid             400, 422  the object is refused; the message names the field
├── Throttled           429  `retry_after_s` says when to come again
└── Unreachable         5xx, no connection, no answer in time
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


class KubeError(Exception):
    def __init__(self, message: str, *, status: int = 0, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.retry_after_s = retry_after_s


class NotFound(KubeError):
    pass


class Conflict(KubeError):
    pass


class Gone(KubeError):
    pass


class Forbidden(KubeError):
    pass


class Terminating(Forbidden):
    pass


class Invalid(KubeError):
    pass


class Throttled(KubeError):
    pass


class Unreachable(KubeError):
    pass


BY_STATUS: Mapping[int, type[KubeError]] = {
    400: Invalid,
    401: Forbidden,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
    429: Throttled,
}


def of_status(status: int, message: str, retry_after_s: float | None = None) -> KubeError:
    kind = BY_STATUS.get(status, Unreachable if status >= 500 else KubeError)
    return kind(message, status=status, retry_after_s=retry_after_s)


def of_answer(status: int, body: bytes, headers: Mapping[str, str]) -> KubeError:
    """The error that an answer tells; the API server's own words where it gives some."""
    try:
        told: Any = json.loads(body)
        message = str(told["message"])
    except (ValueError, KeyError, TypeError):
        message = f"HTTP {status}: {body[:200].decode(errors='replace')}"
    else:
        if status == 403 and _is_terminating(told):
            return Terminating(message, status=status)
    after = headers.get("Retry-After", "")
    return of_status(status, message, float(after) if after.isdecimal() else None)


def _is_terminating(told: Mapping[str, Any]) -> bool:
    causes = (told.get("details") or {}).get("causes") or ()
    return any(cause.get("reason") == "NamespaceTerminating" for cause in causes)
