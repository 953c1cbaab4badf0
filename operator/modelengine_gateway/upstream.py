"""The front door's calls to engines, over connections that are kept. Errors of the network become ours here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Self

from modelengine import errors, wire
from modelengine.protocol import ServerInfo, host_in_url
from modelengine_api import calls
from modelengine_gateway import loops
from modelengine_gateway.connection import Connection, Overdue

CONNECT_TIMEOUT_S = 2.0
PROBE_TIMEOUT_S = 1.5
# Shorter than engines keep an idle connection, so that we are the one who closes it.
IDLE_S = 30.0
# Of a whole answer. The largest are vectors: of all the inputs that a request may have, 8,192 numbers each.
MAX_ANSWER_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds until an engine's first byte, between two of its bytes, and until its answer has ended."""

    first_byte_s: float
    between_s: float
    total_s: float


class Unreachable(errors.ConnectionFailed):
    """No connection came about, so no engine has seen the request. On the wire it is a ConnectionFailed."""


class Answer:
    """An engine's answer whose first bytes have come. Leave it by `with`; iterate it for all of them, which
    raises StreamBroken midway."""

    def __init__(self, connection: Connection, first: bytes, on_close: Callable[[Connection], None]) -> None:
        self._connection = connection
        self._first = first
        self._on_close = on_close

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._on_close(self._connection)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        data, self._first = self._first, b""
        if not data:
            try:
                data = await self._connection.read()
            except Overdue as failure:
                raise errors.StreamBroken(f"the engine {failure}; the answer is not whole") from failure
            except (OSError, ValueError) as failure:
                raise errors.StreamBroken("the engine broke off in the middle of the answer") from failure
        if not data:
            raise StopAsyncIteration
        return data

    async def read(self) -> bytes:
        """The whole rest. Raises StreamBroken where that is over MAX_ANSWER_BYTES."""
        parts, size = [], 0
        async for data in self:
            parts.append(data)
            size += len(data)
            if size > MAX_ANSWER_BYTES:
                raise errors.StreamBroken(f"the engine's answer is over {MAX_ANSWER_BYTES} bytes")
        return b"".join(parts)


class Upstream:
    """An HTTP client for engines; open it with `async with`.

    A connection whose answer has ended serves the next request. One that was closed meanwhile costs nothing: where not
    a byte has come of an answer, a new connection is asked the same. Leaving an answer before its end closes its
    connection, which aborts the request there.
    """

    def __init__(self) -> None:
        # In the order in which they came free; the last is the likeliest to be open still.
        self._idle: dict[ServerInfo, list[Connection]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        for connections in self._idle.values():
            for connection in connections:
                connection.close()
        self._idle.clear()

    def forget(self, at: ServerInfo) -> None:
        """Nobody will be asked there any more."""
        for connection in self._idle.pop(at, ()):
            connection.close()

    async def is_ready(self, at: ServerInfo) -> bool:
        """Whether the engine itself says that it is ready, within PROBE_TIMEOUT_S."""
        connection = None
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                # One of its own: whether new ones are taken is part of the question.
                connection = await Connection.dial(at.host, at.port)
                await connection.ask(_request(at, "GET", "/ready"), PROBE_TIMEOUT_S, PROBE_TIMEOUT_S, PROBE_TIMEOUT_S)
                return connection.status == 200
        except (OSError, ValueError, Overdue):
            return False
        finally:
            if connection is not None:
                connection.close()

    async def open(self, at: ServerInfo, path: str, body: bytes, deadlines: Deadlines, verb: str = "POST") -> Answer:
        """The engine's answer, once it has begun, to be left by `with`; before its end that aborts the request there.

        Raises Unreachable when nobody takes the request, ConnectionFailed when it was taken and no byte of an answer
        came (whatever breaks there may be this request's doing), WaitTimeout when the engine took the request and said
        nothing until its deadline, and whatever error the engine answered.
        """
        connection, first = await self._begin(at, _request(at, verb, path, body), deadlines)
        answer = Answer(connection, first, partial(self._take_back, at))
        if connection.status == 200 and first:
            return answer
        with answer:
            if connection.status != 200:
                await _raise_refusal(answer, at, connection.status)
            raise _broke(at)

    async def _begin(self, at: ServerInfo, request: bytes, deadlines: Deadlines) -> tuple[Connection, bytes]:
        """The connection on which the answer has begun, and its first bytes."""
        kept = self._kept(at)
        if kept is not None:
            try:
                return kept, await self._ask(kept, at, request, deadlines)
            except ConnectionError as failure:
                if kept.status:
                    raise _broke(at) from failure
        try:
            connection = await _dial(at)
        except Unreachable as failure:
            # Then it was no idle connection's time that was over: the request went out, and the engine with it.
            raise failure if kept is None else _broke(at) from failure
        try:
            return connection, await self._ask(connection, at, request, deadlines)
        except ConnectionError as failure:
            raise _broke(at) from failure

    async def _ask(self, connection: Connection, at: ServerInfo, request: bytes, deadlines: Deadlines) -> bytes:
        """Raises ConnectionError only where not a byte has come."""
        try:
            return await connection.ask(request, deadlines.first_byte_s, deadlines.between_s, deadlines.total_s)
        except Overdue as failure:
            raise errors.WaitTimeout(f"the engine took the request, but {failure} before it answered") from failure
        except ValueError as failure:
            raise errors.ConnectionFailed(f"{at.url} does not answer as an engine") from failure
        except BaseException:
            connection.close()
            raise

    def _kept(self, at: ServerInfo) -> Connection | None:
        kept = self._idle.get(at, [])
        while kept:
            if (connection := kept.pop()).is_open:
                return connection
        self._idle.pop(at, None)
        return None

    def _take_back(self, at: ServerInfo, connection: Connection) -> None:
        if not connection.is_reusable:
            connection.close()
            return
        connection.idle(IDLE_S)
        if at not in self._idle:
            self._drop_closed()
        kept = self._idle.setdefault(at, [])
        # The oldest are closed first.
        while kept and not kept[0].is_open:
            kept.pop(0)
        kept.append(connection)

    def _drop_closed(self) -> None:
        """An answer may end after its engine is forgotten, and addresses come and go as long as the server runs."""
        self._idle = {at: kept for at, kept in self._idle.items() if any(connection.is_open for connection in kept)}


async def _dial(at: ServerInfo) -> Connection:
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            return await Connection.dial(at.host, at.port)
    except TimeoutError as failure:
        raise Unreachable(f"nobody answers at {at.url} in time") from failure
    except (OSError, ValueError) as failure:
        raise Unreachable(f"nobody answers at {at.url}") from failure


def _broke(at: ServerInfo) -> errors.ConnectionFailed:
    return errors.ConnectionFailed(f"{at.url} took the request and closed the connection without an answer")


def _request(at: ServerInfo, verb: str, path: str, body: bytes = b"") -> bytes:
    # An id and a trace, as they were found sane.
    about = "".join(f"{name}: {value}\r\n" for name, value in calls.headers().items())
    return (
        f"{verb} {path} HTTP/1.1\r\nhost: {host_in_url(at.host)}:{at.port}\r\ncontent-type: application/json\r\n"
        f"{loops.MARK}: 1\r\n{about}content-length: {len(body)}\r\n\r\n"
    ).encode() + body


async def _raise_refusal(answer: Answer, at: ServerInfo, status: int) -> None:
    try:
        wire.unwrap(wire.decode(await answer.read()))
    except errors.StreamBroken as foreign:
        raise errors.ConnectionFailed(f"{at.url} answers, but not as an engine (HTTP {status})") from foreign
    raise errors.ConnectionFailed(f"{at.url} answers HTTP {status}, but names no error")
