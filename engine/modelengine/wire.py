"""Envelopes to bytes and back, without a socket.

Every answer is an envelope `{"state": "ok"|"error", "msg": ...}`. A stream is NDJSON: one envelope per line, so that
where the network cuts the bytes never matters. The sync client, the async client, the engine and the front door all
use these functions; nothing here does I/O.
"""

from __future__ import annotations

import json
import sys
from array import array
from base64 import b64decode, b64encode
from collections.abc import Iterable
from typing import Any

from modelengine import errors

NDJSON = "application/x-ndjson"
MAX_LINE_BYTES = 16 * 1024 * 1024


def ok(msg: Any) -> dict[str, Any]:
    return {"state": "ok", "msg": msg}


def error(failure: errors.ModelEngineError) -> dict[str, Any]:
    envelope: dict[str, Any] = {"state": "error", "msg": failure.message, "code": failure.code}
    if failure.details:
        envelope["details"] = list(failure.details)
    if failure.retry_after_s is not None:
        envelope["retry_after_s"] = failure.retry_after_s
    return envelope


def unwrap(envelope: Any) -> Any:
    """The envelope's `msg`.

    Raises the error that the envelope carries, as the class that `errors.BY_CODE` names, and StreamBroken where it is
    no envelope at all.
    """
    if not isinstance(envelope, dict) or envelope.get("state") not in ("ok", "error"):
        raise errors.StreamBroken(f"not an answer of a ModelEngine server: {str(envelope)[:200]}")
    if envelope["state"] == "ok":
        return envelope.get("msg")
    kind = errors.BY_CODE.get(str(envelope.get("code")), errors.ModelEngineError)
    raise kind(
        str(envelope.get("msg")),
        details=envelope.get("details", ()),
        retry_after_s=envelope.get("retry_after_s"),
    )


def encode(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def encode_line(value: Any) -> bytes:
    return encode(value) + b"\n"


def decode(body: bytes) -> Any:
    """Decodes one JSON document; StreamBroken where the bytes are none (a proxy's error page, say)."""
    try:
        return json.loads(body)
    except ValueError as failure:
        start = body[:200].decode(errors="replace")
        raise errors.StreamBroken(f"the answer is not JSON: {start!r}") from failure


def encode_vector(numbers: Iterable[float]) -> str:
    """The base64 of the numbers as float32s, the lowest byte first."""
    packed = array("f", numbers)
    if sys.byteorder == "big":
        packed.byteswap()
    return b64encode(packed.tobytes()).decode("ascii")


def decode_vector(text: str) -> list[float]:
    """The numbers of `encode_vector`; StreamBroken where the text is none of its."""
    try:
        packed = array("f", b64decode(text, validate=True))
    except (ValueError, TypeError) as failure:
        raise errors.StreamBroken(f"the answer's vector is not base64 of float32s ({failure})") from failure
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tolist()


class LineDecoder:
    """Cuts a byte stream into the JSON values of its lines. A line of over 16 MiB is refused."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[Any]:
        """Takes bytes as they came and returns the values of the lines they complete."""
        self._rest += data
        if len(self._rest) > MAX_LINE_BYTES:
            raise errors.StreamBroken(f"a line of the answer is over {MAX_LINE_BYTES} bytes")
        if b"\n" not in data:
            return []
        *lines, rest = self._rest.split(b"\n")
        self._rest = rest
        return [decode(bytes(line)) for line in lines if line.strip()]

    @property
    def is_empty(self) -> bool:
        """True when the stream stopped between two lines, not inside one."""
        return not self._rest.strip()
