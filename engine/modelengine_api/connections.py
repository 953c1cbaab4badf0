"""One connection of a server of ours: uvicorn's, with the deadlines and bounds that it lacks.

`serving.py` gives the class to uvicorn and runs `watch` beside it, which looks at every connection once a second. So a
request costs no timer, and a deadline is met to about a second. What is relied on of uvicorn's inside is pinned by
tests/wire/test_connections.py: the names of its callbacks, `cycle` and its `transport`, `connections`.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, cast

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from modelengine import errors
from modelengine_api import doors, failures

LOOK_S = 1.0
# What a server has open besides connections: its logs, its model, its libraries.
OTHER_FILES = 64
# More connections than this over the limit do not even get an answer.
TOLD = 1.1


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one connection may take, and how many there may be.

    `head_s` is for the head of a request, and for the first one from when the connection was made; `request_s` for a
    whole request from the end of its head. `stall_s` is how long a client may take no byte of what is there for it.
    """

    head_s: float = 10.0
    request_s: float = 30.0
    stall_s: float = 60.0
    head_bytes: int = 16 * 1024
    headers: int = 64
    connections: int = 10_000

    def that_fit(self, open_files: int) -> Bounds:
        """These, with no more connections than a process may have that opens another one for each."""
        return replace(self, connections=max(1, min(self.connections, (open_files - OTHER_FILES) // 2)))

    @property
    def open_files(self) -> int:
        """The most that a process has open which has another connection for each."""
        return 2 * self.connections + OTHER_FILES


class Connection(HttpToolsProtocol):
    """uvicorn's connection, which `look` ends when a deadline of `bounds` is over."""

    bounds = Bounds()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._refusal: errors.ModelEngineError | None = None
        self._head_bytes = self._head_count = 0
        self._in_head = True
        self._in_body = False
        # When what is being waited for must have come; None: the server is who must act.
        self._due: float | None = None
        self._unsent = 0
        self._unsent_since = math.inf

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect(self.bounds.head_s)
        if len(self.connections) > self.bounds.connections * TOLD + 1:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        # Where the client reset it, uvicorn's timer would hold all of this for as long as a client may be idle.
        self._unset_keepalive_if_required()

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
            if self._due is None and not self._is_answering:
                self._expect(self.bounds.head_s)
        super().data_received(data)
        if self._in_head and self._head_bytes > self.bounds.head_bytes:
            self._refuse(errors.HeadersTooLarge(f"the head of a request has at most {self.bounds.head_bytes} bytes"))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_count = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_count += 1
        if self._head_count > self.bounds.headers:
            # Ends the parser, and then this connection: see send_400_response.
            self._refusal = errors.HeadersTooLarge(f"a request has at most {self.bounds.headers} headers")
            raise self._refusal
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > self.bounds.head_bytes:
            self._refusal = errors.HeadersTooLarge(
                f"the head of a request has at most {self.bounds.head_bytes} bytes, got {size}"
            )
            raise self._refusal
        app = self.app
        if len(self.connections) > self.bounds.connections:
            self.app = _full
        try:
            super().on_headers_complete()
        finally:
            self.app = app
        if self.cycle is not None:
            # All that an answer does with a transport, it does too.
            self.cycle.transport = cast(asyncio.Transport, Joined(self.transport, self.loop))
        self._in_head, self._in_body = False, True
        self._expect(self.bounds.request_s)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_head, self._in_body = True, False
        self._head_bytes = 0
        self._due = None

    def send_400_response(self, msg: str) -> None:
        """What was received is no HTTP, or over a bound: says so in our words, and closes."""
        self._refuse(self._refusal or errors.InvalidRequest("what came is no proper HTTP/1.1 request"))

    def look(self, now: float) -> None:
        """Ends the connection if it is over time."""
        if self._is_stalled(now):
            self.transport.abort()
        elif self.pipeline:
            # We are who does not read on, until the answer before is through.
            self._due = now + self.bounds.request_s
        elif self._due is not None and now > self._due:
            self._end_waiting()

    def _expect(self, within_s: float) -> None:
        self._due = self.loop.time() + within_s

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _is_stalled(self, now: float) -> bool:
        unsent = self.transport.get_write_buffer_size()
        if unsent == 0 or unsent != self._unsent:
            self._unsent, self._unsent_since = unsent, now
        return now - self._unsent_since > self.bounds.stall_s

    def _end_waiting(self) -> None:
        if self._in_body and not self._is_answering:
            # It has its answer, and goes on sending what nobody wants.
            return self.transport.close()
        if self._in_body:
            within = f"the request did not come in whole within {self.bounds.request_s:g} s"
        elif self._head_bytes:
            within = f"the head of the request did not come within {self.bounds.head_s:g} s"
        else:
            return self.transport.close()
        return self._refuse(errors.TooSlow(within))

    def _refuse(self, failure: errors.ModelEngineError) -> None:
        """The last words of this connection, unless an answer has begun: nothing may stand in the middle of that."""
        self._due = None
        if self.transport.is_closing():
            return
        if not (self._is_answering and (self.pipeline or self._in_head or self.cycle.response_started)):
            self.transport.write(_rendered(failure, self._path))
        if self._is_answering:
            # As when the client had left: whoever still waits for the body is told.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()

    @property
    def _path(self) -> str:
        return getattr(self, "url", b"").decode("ascii", "replace")


class Joined:
    """The transport as one answer sees it: its first two writes, the head and what follows, go out as one.

    A head whose body does not follow at once goes alone. Each write that is saved is a call of the system and a packet.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""
        self._is_head_out = False

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def write(self, data: bytes) -> None:
        if self._is_head_out:
            # One that broke takes nothing any more, and whoever answers is told a little later.
            if not self._transport.is_closing():
                self._transport.write(data)
        elif self._head:
            whole, self._head = self._head + data, b""
            self._is_head_out = True
            self.write(whole)
        else:
            self._head = data
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        if self._head:
            self.write(b"")


def _rendered(failure: errors.ModelEngineError, path: str) -> bytes:
    body = json.dumps(failures.wording(path)(failure), separators=(",", ":")).encode()
    head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
    return STATUS_LINE[failure.status] + head + body


async def _full(scope: Scope, receive: Receive, send: Send) -> None:
    failure = errors.Unavailable("this server has as many connections as it may have", retry_after_s=1)
    response = doors.refusal(failure, scope["path"])
    response.headers["connection"] = "close"
    await response(scope, receive, send)


async def watch(connections: Iterable[Any]) -> None:
    """Looks at every connection, once a second, until it is cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(LOOK_S)
        now = loop.time()
        for connection in list(connections):
            connection.look(now)
