"""How every server of ours answers: the envelope for what went well, and for every failure what its API says then.

An engine and the front door call `install` once on their app; no other place renders an error.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from modelengine import errors
from modelengine.protocol import EngineMethod, NameServerMethod
from modelengine_api import calls, failures, invalid

log = logging.getLogger(__name__)

JSON = "application/json"
# No standard status says that the client has left; nobody reads it, it only stands in logs.
CLIENT_LEFT = 499
METHODS: dict[str, list[str]] = {"engine": sorted(EngineMethod), "nameserver": sorted(NameServerMethod)}


def answer(msg: Any) -> Response:
    """The `ok` envelope around `msg`."""
    return Response(orjson.dumps({"state": "ok", "msg": msg}), media_type=JSON)


def plain(body: Any, headers: Mapping[str, str] | None = None) -> Response:
    """`body` as it is, for APIs that know no envelope."""
    return Response(orjson.dumps(body), media_type=JSON, headers=dict(headers or {}))


class _Pieces(Response):
    """A body that nobody has in one piece."""

    def __init__(self, pieces: Sequence[bytes], headers: Mapping[str, str]) -> None:
        length = {"content-length": str(sum(len(piece) for piece in pieces))}
        super().__init__(media_type=JSON, headers={**headers, **length})
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for piece in self._pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def in_pieces(pieces: Iterable[bytes], headers: Mapping[str, str] | None = None) -> Response:
    """A body of JSON that takes long to make: after each piece it is the turn of all that waits on this event loop."""
    made: list[bytes] = []
    for piece in pieces:
        made.append(piece)
        await asyncio.sleep(0)
    return _Pieces(made, headers or {})


def refusal(failure: errors.ModelEngineError, path: str, status: int | None = None) -> Response:
    """The failure as the API at this path words it, with the error's own status unless another is given."""
    calls.failed(failure.code)
    headers = {}
    if failure.retry_after_s is not None:
        headers["retry-after"] = str(math.ceil(failure.retry_after_s))
    body = encoded(failures.wording(path)(failure))
    return Response(body, status_code=status or failure.status, media_type=JSON, headers=headers)


def encoded(worded: Any) -> bytes:
    """A worded failure as JSON, by the standard library: it can say whatever a foreign text holds, half characters
    included."""
    return json.dumps(worded, separators=(",", ":"), default=str).encode()


def install(app: FastAPI) -> None:
    """Makes every failure of the app an answer in the words of the API that was asked."""
    app.add_exception_handler(errors.ModelEngineError, _known)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ClientDisconnect, _left)
    app.add_exception_handler(Exception, _unknown)


async def _known(request: Request, failure: Exception) -> Response:
    assert isinstance(failure, errors.ModelEngineError)
    return refusal(failure, request.scope["path"])


async def _invalid(request: Request, failure: Exception) -> Response:
    assert isinstance(failure, RequestValidationError)
    found = [{**item, "loc": tuple(item["loc"])[1:]} for item in failure.errors()]
    return refusal(invalid.explain(found), request.scope["path"])


async def _http(request: Request, failure: Exception) -> Response:
    assert isinstance(failure, HTTPException)
    if failure.status_code not in (404, 405):
        return refusal(errors.InvalidRequest(str(failure.detail)), request.scope["path"], failure.status_code)
    response = refusal(failures.NoRoute(_no_route(request, failure)), request.scope["path"], failure.status_code)
    response.headers.update(failure.headers or {})
    return response


def _no_route(request: Request, failure: HTTPException) -> str:
    path = request.scope["path"]
    if failure.status_code == 405:
        return f"{request.method} is not allowed on {path[:200]}; use {(failure.headers or {}).get('Allow', 'POST')}"
    server, _, method = path.removeprefix("/").partition("/")
    supported = [known for known in METHODS.get(server, ()) if _is_served(request, f"/{server}/{known}")]
    if method and supported:
        return f"unknown method {method[:100]!r}; this server supports {', '.join(supported)}"
    return f"nothing is served at {path[:200]}"


def _is_served(request: Request, path: str) -> bool:
    scope = {**request.scope, "path": path, "method": "POST"}
    # What is not in the schema is there to be refused with a reason.
    offered = [route for route in request.app.routes if getattr(route, "include_in_schema", True)]
    return any(route.matches(scope)[0] is Match.FULL for route in offered)


async def _left(request: Request, failure: Exception) -> Response:
    calls.failed(calls.CLIENT_LEFT)
    return Response(status_code=CLIENT_LEFT)


async def _unknown(request: Request, failure: Exception) -> Response:
    # Starlette raises it again once this is sent, and uvicorn then logs the traceback.
    log.error("%s %s failed: %s", request.method, request.scope["path"], type(failure).__name__)
    unknown = errors.ModelEngineError("the server failed at this request; its log says why")
    response = refusal(unknown, request.scope["path"])
    # Starlette sends it outside of the layer that gives every other answer its id.
    response.headers[calls.REQUEST_ID] = calls.request_id()
    return response
