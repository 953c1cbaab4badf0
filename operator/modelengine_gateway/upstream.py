"""The front door's calls to engines. The only place that knows aiohttp, whose errors become ours here."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Self

import aiohttp

from modelengine import errors, wire
from modelengine.protocol import EngineMethod, ServerInfo
from modelengine_api import calls
from modelengine_gateway import loops

CONNECT_TIMEOUT_S = 2.0
PROBE_TIMEOUT_S = 1.5
JSON_HEADERS = {"content-type": "application/json"}


class Answer:
    """An engine's answer whose first bytes have come. Iterate it for all of them; raises StreamBroken midway."""

    def __init__(self, response: aiohttp.ClientResponse, first: bytes) -> None:
        self._response = response
        self._first = first

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._first
        try:
            async for data in self._response.content.iter_any():
                yield data
        except TimeoutError as failure:
            raise errors.StreamBroken("the engine fell silent in the middle of the answer") from failure
        except (aiohttp.ClientError, OSError) as failure:
            raise errors.StreamBroken("the engine broke off in the middle of the answer") from failure

    async def read(self) -> bytes:
        return b"".join([data async for data in self])


class Upstream:
    """An HTTP client for engines; open it with `async with`.

    Each call has a connection of its own. So a connection that the engine closed while it was idle is never picked,
    and closing one ends exactly one request.
    """

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            headers={loops.MARK: "1"},
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def is_ready(self, at: ServerInfo) -> bool:
        """Whether the engine itself says that it is ready, within PROBE_TIMEOUT_S."""
        assert self._session is not None
        timeout = aiohttp.ClientTimeout(total=PROBE_TIMEOUT_S)
        try:
            async with self._session.get(f"{at.url}/ready", timeout=timeout, allow_redirects=False) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return False

    @contextlib.asynccontextmanager
    async def open(self, at: ServerInfo, method: EngineMethod, body: bytes, silence_s: float) -> AsyncIterator[Answer]:
        """The engine's answer, once it has begun; leaving closes it, which aborts the request there.

        Raises ConnectionFailed when no byte of an answer comes, WaitTimeout when the engine took the request and said
        nothing for `silence_s`, and whatever error the engine answered.
        """
        assert self._session is not None
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=silence_s)
        async with contextlib.AsyncExitStack() as stack:
            try:
                response = await stack.enter_async_context(
                    self._session.post(
                        f"{at.url}/engine/{method}",
                        data=body,
                        headers={**JSON_HEADERS, **calls.headers()},
                        timeout=timeout,
                        allow_redirects=False,
                    )
                )
                first = await response.content.readany()
            except aiohttp.ConnectionTimeoutError as failure:
                raise errors.ConnectionFailed(f"nobody answers at {at.url} in time") from failure
            except TimeoutError as failure:
                raise errors.WaitTimeout(
                    f"the engine took the request but did not answer in {silence_s:g} s"
                ) from failure
            except (aiohttp.ClientError, OSError, ValueError) as failure:
                raise errors.ConnectionFailed(f"nobody answers at {at.url}") from failure
            answer = Answer(response, first)
            if response.status != 200:
                await _raise_refusal(answer, at, response.status)
            if not first:
                raise errors.ConnectionFailed(f"{at.url} closed the connection without an answer")
            yield answer


async def _raise_refusal(answer: Answer, at: ServerInfo, status: int) -> None:
    try:
        wire.unwrap(wire.decode(await answer.read()))
    except errors.StreamBroken as foreign:
        raise errors.ConnectionFailed(f"{at.url} answers, but not as an engine (HTTP {status})") from foreign
    raise errors.ConnectionFailed(f"{at.url} answers HTTP {status}, but names no error")
