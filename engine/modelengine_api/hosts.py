"""Holds every request against `pages.py`, and tells browsers of the origins that may ask (CORS). A pure ASGI middleware
of every server, outside of all that reads a request or asks for a key."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modelengine_api import doors
from modelengine_api.pages import Asked, Policy

HEADER_NAMES = re.compile(r"[A-Za-z0-9, \-_]{0,1000}")
PREFLIGHT_S = 600
EXPOSED = ", ".join(
    (
        "retry-after",
        "x-request-id",
        "x-modelengine-ignored",
        *(f"x-ratelimit-{what}-{unit}" for unit in ("requests", "tokens") for what in ("limit", "remaining", "reset")),
    )
)


class Hosts:
    """Refuses what the policy does, and tells browsers of the origins that it allows (CORS)."""

    def __init__(self, app: ASGIApp, policy: Policy) -> None:
        self._app = app
        self._policy = policy
        # The same clients come again and again.
        self._refusal = functools.lru_cache(maxsize=64)(policy.refusal)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        asked, wanted = _read(scope["headers"])
        if refusal := self._refusal(asked):
            return await doors.refusal(refusal, scope["path"])(scope, receive, send)
        if not (asked.origin and self._policy.is_allowed(asked.origin)):
            return await self._app(scope, receive, send)
        if scope["method"] == "OPTIONS" and wanted is not None:
            return await _preflight(asked.origin, wanted)(scope, receive, send)

        async def allowing(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["access-control-allow-origin"] = asked.origin
                headers["access-control-expose-headers"] = EXPOSED
                headers.add_vary_header("Origin")
            await send(message)

        return await self._app(scope, receive, allowing)


def _read(headers: Sequence[tuple[bytes, bytes]]) -> tuple[Asked, str | None]:
    """Of the headers what counts here, and which headers a preflight asks for; None where it is no preflight."""
    found = {name: value.decode("latin-1") for name, value in headers if name in _COUNTS}
    asked = Asked(
        host=found.get(b"host", ""),
        origin=found.get(b"origin", ""),
        site=found.get(b"sec-fetch-site", ""),
        mode=found.get(b"sec-fetch-mode", ""),
        agent=found.get(b"user-agent", ""),
    )
    is_preflight = b"access-control-request-method" in found
    return asked, found.get(b"access-control-request-headers", "") if is_preflight else None


_COUNTS = frozenset(
    (
        b"host",
        b"origin",
        b"sec-fetch-site",
        b"sec-fetch-mode",
        b"user-agent",
        b"access-control-request-method",
        b"access-control-request-headers",
    )
)


def _preflight(origin: str, wanted: str) -> Response:
    headers = {
        "access-control-allow-origin": origin,
        "access-control-allow-methods": "GET, POST",
        "access-control-max-age": str(PREFLIGHT_S),
        "vary": "Origin",
    }
    if wanted and HEADER_NAMES.fullmatch(wanted):
        headers["access-control-allow-headers"] = wanted
    return Response(status_code=204, headers=headers)
