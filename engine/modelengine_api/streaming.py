"""Answers that take their time: a stream of lines, and a whole answer that is dropped when its client leaves.

An engine sends its tokens and the front door its watches and relayed streams through `LineStream`. The lines come
rendered, so sending one costs an ASGI message and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Any, TypeVar

from fastapi import Request, Response
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from modelengine import errors, wire
from modelengine_api import calls, observing

log = logging.getLogger(__name__)

Result = TypeVar("Result")

# A client that takes no byte for so long is gone, whatever its kernel says; its slot goes to another.
STALL_S = 60.0


LastWord = Callable[[errors.ModelEngineError], bytes]


def envelope_line(failure: errors.ModelEngineError) -> bytes:
    """How a stream of the native protocol ends that fails."""
    return wire.encode_line(wire.error(failure))


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
        pump = asyncio.create_task(self._pump(send))
        gone = asyncio.create_task(_disconnect(receive))
        try:
            while not (pump.done() or gone.done() or self._is_stalled()):
                await asyncio.wait((pump, gone), timeout=self.stall_s / 4, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            # Only the end of the server's grace cancels a request. This is its last word, so it is not raised again.
            await _cancel(pump)
            await self._last_word(errors.Unavailable("the server is stopping"), send)
        else:
            if pump.done():
                pump.result()
            else:
                calls.failed(calls.CLIENT_LEFT if gone.done() else calls.CLIENT_STALLED)
        finally:
            await _cancel(pump, gone)

    async def _pump(self, send: Send) -> None:
        try:
            async for line in self._lines:
                if not self._started:
                    self._started = True
                    calls.streams()
                    await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                self._sending_since = asyncio.get_running_loop().time()
                await self._direct({"type": "http.response.body", "body": line, "more_body": True})
                self._sending_since = None
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
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            close = getattr(self._lines, "aclose", None)
            if close is not None:
                await close()

    async def _last_word(self, failure: errors.ModelEngineError, send: Send) -> None:
        if not self._started:
            raise failure
        calls.failed(failure.code)
        await send({"type": "http.response.body", "body": self._render_last_word(failure), "more_body": False})

    def _is_stalled(self) -> bool:
        since = self._sending_since
        return since is not None and asyncio.get_running_loop().time() - since > self.stall_s


async def until_disconnected(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """The result of `work`, which is cancelled when the client leaves. Raises ClientDisconnect then."""
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_disconnect(request.receive))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    except asyncio.CancelledError:
        raise errors.Unavailable("the server is stopping") from None
    finally:
        await _cancel(task, gone)


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    """Cancels the tasks and waits until they have ended, however they do."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
