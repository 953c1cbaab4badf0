"""The outermost layer of every server of ours: begins the call of each request, and tells of it at the end.

A pure ASGI middleware that `create` of an app adds last. A stream's bytes do not pass through it: `streaming.py` sends
them by `direct`, the server's own `send`, so a chunk costs nothing more, and less than through every layer.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from modelengine_api import calls
from modelengine_api.calls import Call

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

access = logging.getLogger("modelengine.access")

# OpenTelemetry's names of what is asked for, by the path. Only these are requests to a model.
OPERATIONS: Mapping[str, str] = {
    "/engine/inference": "chat",
    "/v1/chat/completions": "chat",
    "/v1/responses": "chat",
    "/api/chat": "chat",
    "/v1/completions": "text_completion",
    "/api/generate": "text_completion",
    "/engine/embed": "embeddings",
    "/v1/embeddings": "embeddings",
    "/api/embed": "embeddings",
    "/api/embeddings": "embeddings",
    "/engine/rerank": "rerank",
    "/v1/rerank": "rerank",
    "/v2/rerank": "rerank",
}
# Asked every second by whoever watches over the server.
PROBES = frozenset({"/health", "/ready", "/loading"})
DIRECT = "modelengine.send"
UNROUTED = "unrouted"


class Tally(Protocol):
    """Whoever counts; `metrics.Requests`."""

    def begin(self, call: Call) -> None: ...
    def end(self, call: Call, seconds: float) -> None: ...
    def bounded(self, call: Call) -> str:
        """The call's model as a label: a name that is served, and one word for whatever else was asked for."""
        ...


class Observed:
    """Gives each request an id, answers with it, and tells the tally and the access log how it went."""

    def __init__(self, app: ASGIApp, tally: Tally) -> None:
        self._app = app
        self._tally = tally

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        call = calls.begin(scope["headers"], OPERATIONS.get(scope["path"]))

        async def heading(message: Message) -> None:
            if message["type"] == "http.response.start":
                call.status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", call.id.encode())]
            await send(message)

        scope[DIRECT] = send
        self._tally.begin(call)
        try:
            await self._app(scope, receive, heading)
        except BaseException as failure:
            # Starlette answers a mistake of ours outside of this.
            call.error = call.error or (calls.UNKNOWN_FAILURE if isinstance(failure, Exception) else "cancelled")
            call.status = call.status or 500
            raise
        finally:
            # It holds the scope, so the two would stay until the collector comes.
            del scope[DIRECT]
            seconds = time.perf_counter() - call.began_at
            self._tally.end(call, seconds)
            if access.isEnabledFor(logging.INFO) and scope["path"] not in PROBES:
                access.info("request", extra=self._line(scope, call, seconds))

    def _line(self, scope: Scope, call: Call, seconds: float) -> dict[str, Any]:
        return {
            "method": scope["method"],
            "path": template(scope),
            "status": call.status,
            "duration_s": round(seconds, 6),
            "model": self._tally.bounded(call) if call.operation else None,
            "operation": call.operation,
            "key": call.key_name,
            "error": call.error or None,
            "prompt_tokens": call.prompt_tokens,
            "answer_tokens": call.answer_tokens,
        }


def template(scope: Scope) -> str:
    """The path as its route writes it, with `{name}` for what differs; one word for what no route has."""
    return getattr(scope.get("route"), "path", None) or (scope["path"] if scope["path"] in OPERATIONS else UNROUTED)


def direct(scope: Scope, send: Send) -> Send:
    """The way for the body of an answer whose start has gone through `send`, and with it through every layer."""
    found: Send = scope.get(DIRECT, send)
    return found
