"""One connection to an engine: HTTP/1.1, one request at a time, its answer part by part as it comes.

Ours and not a library's, because this is where a part of a stream passes: `make bench-gateway` has what aiohttp took
here. `upstream.py` keeps the connections and gives what goes wrong its name. Nothing is read ahead of a slow client for
more than HIGH_WATER bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Self, cast

import httptools

HIGH_WATER = 64 * 1024


class Overdue(Exception):
    """The engine holds the connection and says nothing, or has no end; the message says which."""


class Connection(asyncio.Protocol):
    """Say `ask`, then `read` until the empty end, which is when `is_reusable` is true.

    `ask` and `read` raise Overdue, ConnectionError where the connection breaks, or ValueError for what is no HTTP.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._parser: httptools.HttpResponseParser | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._failure: Exception | None = None
        self._parts: list[bytes] = []
        self._size = 0
        self._is_paused = False
        self._is_asked = False
        self._is_complete = False
        self._is_kept_alive = False
        self._heard_at = self._silence_s = self._over_at = 0.0
        self.status = 0

    @classmethod
    async def dial(cls, host: str, port: int) -> Self:
        """Raises OSError, or ValueError where the host can be none."""
        _, connection = await asyncio.get_running_loop().create_connection(cls, host, port)
        return connection

    @property
    def is_open(self) -> bool:
        return self._failure is None

    @property
    def is_reusable(self) -> bool:
        """Whether the answer has ended, and the connection has not."""
        return self._is_complete and self._failure is None and self._is_kept_alive

    async def ask(self, request: bytes, first_byte_s: float, between_s: float, total_s: float) -> bytes:
        """Sends the request; the first bytes of the answer's body, empty where it has none, once `status` is known."""
        self.status = 0
        self._is_asked, self._is_complete = True, False
        self._heard_at = self._loop.time()
        self._over_at = self._heard_at + total_s
        self._listen_for(first_byte_s)
        if self._failure is None:
            self._transport.write(request)
        first = await self.read()
        self._listen_for(between_s)
        return first

    async def read(self) -> bytes:
        """What has come of the body since; empty at its end."""
        while not self._parts:
            if self._is_complete:
                return b""
            if self._failure is not None:
                raise self._failure
            self._waiter = self._loop.create_future()
            await self._waiter
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        if self._is_paused:
            self._is_paused = False
            self._heard_at = self._loop.time()
            self._transport.resume_reading()
        return data

    def idle(self, seconds: float) -> None:
        """Nobody asks: closes after so long."""
        self._is_asked = False
        self._set_timer(self._loop.time() + seconds, self.close)

    def close(self) -> None:
        """Ends the connection at once, and with it what the engine does for it."""
        self._fail(ConnectionResetError("closed by the front door"))

    def _listen_for(self, silence_s: float) -> None:
        self._silence_s = silence_s
        self._check_silence()

    def _check_silence(self) -> None:
        now = self._loop.time()
        # While we do not read, because the client does not, nothing can be heard.
        silent_at = (now if self._is_paused else self._heard_at) + self._silence_s
        if now >= self._over_at:
            self._fail(Overdue("took longer than an answer may"))
        elif now >= silent_at:
            self._fail(Overdue("fell silent"))
        else:
            self._set_timer(min(silent_at, self._over_at), self._check_silence)

    def _set_timer(self, when: float, act: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(when, act)

    def _fail(self, failure: Exception) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._failure is None:
            self._failure = failure
            self._transport.abort()
            self._parser = None
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are asyncio's by their methods only.
        self._transport = cast(asyncio.Transport, transport)
        # Only now: the two hold each other until this connection ends, and one that never came about does not.
        self._parser = httptools.HttpResponseParser(self)

    def data_received(self, data: bytes) -> None:
        self._heard_at = self._loop.time()
        if self._parser is None:
            return
        if not self._is_asked:
            self._fail(ValueError("an answer to nothing"))
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail(ValueError("not HTTP"))
            return
        if self._size > HIGH_WATER and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, failure: Exception | None) -> None:
        self._fail(ConnectionResetError("closed by the engine"))

    # httptools

    def on_message_begin(self) -> None:
        if self._is_complete:
            self._fail(ValueError("two answers to one request"))

    def on_headers_complete(self) -> None:
        if self._parser is not None:
            self.status = self._parser.get_status_code()
            self._is_kept_alive = self._parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)
        self._size += len(body)

    def on_message_complete(self) -> None:
        self._is_complete = True
