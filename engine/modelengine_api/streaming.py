"""Answers that take their time: a stream of lines, and a whole answer that is dropped when its client leaves.

An engine sends its tokens and the front door its watches and relayed streams through `LineStream`. The lines come
rendered, so sending one costs an ASGI message and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Any, TypeVar

from fastapi import Request, Response
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from modelengine import errors, wire
from modelengine_api import calls, observing

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")

# A client that takes no byte for so long is gone, whatever its kernel says; its slot goes to another.
STALL_S = 60.0


LastWord = Callable[[errors.ModelEngineError], bytes]


def envelope_line(failure: errors.ModelEngineError) -> bytes:
    """How a stream of the native protocol ends that fails."""
    return wire.encode_line(wire.error(failure))


class Client:
    """Whoever waits for the answer that the current task gives: the task is cancelled when he leaves.

    No task but one that listens for it, because a front door has thousands of these.
    """

    def __init__(self, receive: Receive) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._is_served = False
        self.is_lost = False
        self._listening: asyncio.Task[None] | None = asyncio.create_task(self._listen(receive))

    async def _listen(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        # A server says that also once an answer is whole.
        if not self._is_served:
            self.lose()

    def lose(self) -> None:
        self.is_lost = True
        self._task.cancel()

    def served(self) -> None:
        """There is nothing to wait for any more; said before the last bytes leave. May be said again."""
        self._is_served = True
        if self._listening is not None:
            self._listening.cancel()
            # It holds this one by what it was cancelled at, so the two would stay until the collector comes.
            self._listening = None

    def forgive(self) -> None:
        """The task goes on after it was cancelled."""
        self._task.uncancel()


class LineStream(Response):
    """Sends rendered lines as HTTP/1.1 chunks, and closes their iterator as soon as the client has left.

    The first line is awaited before the status is sent, so that a failure before it is a proper HTTP error. A failure
    after it becomes the last line, worded by `last_word`: a stream never ends silently.
    """

    stall_s = STALL_S

    def __init__(
        self,
        lines: AsyncIterator[bytes],
        *,
        media_type: str = wire.NDJSON,
        last_word: LastWord = envelope_line,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.status_code = 200
        self.background = None
        self.media_type = media_type
        self.init_headers({"cache-control": "no-store", "x-accel-buffering": "no", **(headers or {})})
        self._lines = lines
        self._render_last_word = last_word
        self._started = False
        self._sending_since: float | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._direct = observing.direct(scope, send)
        self._loop = asyncio.get_running_loop()
        self._client = Client(receive)
        self._check_reader()
        try:
            await self._pump(send)
        except asyncio.CancelledError:
            self._client.forgive()
            if not self._client.is_lost:
                # Only the end of the server's grace cancels a request: this is its last word, and not raised again.
                await self._last_word(errors.Unavailable("the server is stopping"), send)
            else:
                calls.failed(calls.CLIENT_STALLED if self._is_stalled() else calls.CLIENT_LEFT)
        finally:
            self._client.served()
            self._next_check.cancel()

    def _check_reader(self) -> None:
        if self._is_stalled():
            self._client.lose()
        self._next_check = self._loop.call_later(self.stall_s / 4, self._check_reader)

    def _is_stalled(self) -> bool:
        since = self._sending_since
        return since is not None and self._loop.time() - since > self.stall_s

    async def _pump(self, send: Send) -> None:
        try:
            async for line in self._lines:
                if not self._started:
                    self._started = True
                    calls.streams()
                    await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                await self._send(send, line)
        except errors.ModelEngineError as failure:
            await self._last_word(failure, send)
        except Exception:
            if not self._started:
                raise
            log.exception("a stream failed")
            await self._last_word(errors.RequestFailed("the server failed inside this answer; its log says why"), send)
        else:
            if not self._started:
                raise errors.StreamBroken("the answer ended before it began")
            await self._send(send, b"", is_last=True)
        finally:
            close = getattr(self._lines, "aclose", None)
            if close is not None:
                await close()

    async def _last_word(self, failure: errors.ModelEngineError, send: Send) -> None:
        if not self._started:
            raise failure
        calls.failed(failure.code)
        await self._send(send, self._render_last_word(failure), is_last=True)

    async def _send(self, send: Send, body: bytes, *, is_last: bool = False) -> None:
        if is_last:
            self._client.served()
        self._sending_since = self._loop.time()
        await (send if is_last else self._direct)(
            {"type": "http.response.body", "body": body, "more_body": not is_last}
        )
        self._sending_since = None


@contextlib.asynccontextmanager
async def closing(answer: AsyncIterator[Item]) -> AsyncIterator[AsyncIterator[Item]]:
    """Closes the answer at the end of the block, which gives up its request where it is not through."""
    try:
        yield answer
    finally:
        close = getattr(answer, "aclose", None)
        if close is not None:
            await close()


async def until_disconnected(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """The result of `work`, which is cancelled when the client leaves. Raises ClientDisconnect then."""
    client = Client(request.receive)
    try:
        return await work
    except asyncio.CancelledError:
        client.forgive()
        if client.is_lost:
            raise ClientDisconnect from None
        raise errors.Unavailable("the server is stopping") from None
    finally:
        client.served()
