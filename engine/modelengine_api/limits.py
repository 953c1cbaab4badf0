"""The bodies that are read: up to a size, as they are, and in one piece. A pure ASGI middleware of every server.

It counts bytes, whatever the header says; and what is compressed or in parts would be more than it seems.
"""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modelengine import errors
from modelengine_api import doors

MAX_BODY_BYTES = 8 * 1024 * 1024
# A body that is too large is read on for a while and thrown away: a client that is still sending when the connection
# closes would see a reset, not our answer.
DISCARD_FACTOR = 8
DISCARD_S = 10.0


class BodyLimit:
    """Answers 413 to a body of over `max_bytes`."""

    def __init__(self, app: ASGIApp, max_bytes: int = MAX_BODY_BYTES) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        if strange := _strange(scope):
            await self._discard(receive)
            return await _refuse(errors.UnsupportedMedia(strange), scope, receive, send)
        declared = _content_length(scope)
        if declared > self._max_bytes:
            if declared <= self._max_bytes * DISCARD_FACTOR:
                await self._discard(receive)
            return await _refuse(self._too_large(f"{declared}"), scope, receive, send)
        return await self._counted(scope, receive, send)

    async def _counted(self, scope: Scope, receive: Receive, send: Send) -> None:
        seen = 0

        async def counting() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._max_bytes:
                if message.get("more_body"):
                    await self._discard(receive)
                raise self._too_large(f"at least {seen}")
            return message

        async def closing(message: Message) -> None:
            # What is left of the body must not be taken for the next request.
            if message["type"] == "http.response.start" and seen > self._max_bytes:
                message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        await self._app(scope, counting, closing)

    async def _discard(self, receive: Receive) -> None:
        left = self._max_bytes * DISCARD_FACTOR
        try:
            async with asyncio.timeout(DISCARD_S):
                while left > 0:
                    message = await receive()
                    left -= len(message.get("body", b""))
                    if not message.get("more_body"):
                        return
        except TimeoutError:
            return

    def _too_large(self, size: str) -> errors.TooLarge:
        return errors.TooLarge(f"the body has {size} bytes; at most {self._max_bytes} are read")


async def _refuse(failure: errors.ModelEngineError, scope: Scope, receive: Receive, send: Send) -> None:
    response = doors.refusal(failure, scope["path"])
    response.headers["connection"] = "close"
    await response(scope, receive, send)


def _strange(scope: Scope) -> str | None:
    """Why a body of these headers is not even looked at; None where it is."""
    for name, value in scope["headers"]:
        if name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            return "the body is compressed; send it as it is"
        if name == b"content-type" and value.strip().lower().startswith(b"multipart/"):
            return "the body is in parts; send JSON"
    return None


def _content_length(scope: Scope) -> int:
    given = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    return int(given) if given.isdigit() else 0
