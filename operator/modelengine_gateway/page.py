"""The chat page at `/` and the files that it is made of, as they are sent to browsers.

Plain files in `web/`, read once at the start: nothing builds them, and nothing on the page comes from anywhere else.
Browsers get them without comments and gaps, which are for who reads them here. The page speaks the native protocol
with the front door like any other client.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from fastapi import Request, Response
from starlette.routing import BaseRoute

from modelengine import errors
from modelengine_api import openapi

FOLDER = Path(__file__).parent / "web"
INDEX = "index.html"
ASSETS_PATH = "/page/{name}"
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
COMMENT = re.compile(r"//|/\*.*\*/$")
GAP = re.compile(r"\s*([{};,])\s*")
# What a model says is shown on this page, so nothing that it could smuggle in may run, load or be sent anywhere.
CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
HEADERS = {
    # Kept by browsers, but asked for each time: a new release is seen at once, and what is the same costs a 304.
    "cache-control": "no-cache",
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class File:
    """One file of the page; `etag` is a hash of what is in it."""

    body: bytes
    media_type: str
    etag: str


def wants_page(accept: str) -> bool:
    """Whether who asks for `/` shows pages, by its Accept header: it names HTML, and not only as part of `*/*`."""
    for offer in accept.lower().split(","):
        media_type, *parameters = (part.strip() for part in offer.split(";"))
        if media_type in ("text/html", "application/xhtml+xml"):
            return not any(parameter.replace(" ", "") in ("q=0", "q=0.0") for parameter in parameters)
    return False


class Page:
    """The files, in memory."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._files = {path.name: _read(path) for path in folder.iterdir() if path.suffix in MEDIA_TYPES}

    def routes(self, for_others: Callable[[], Awaitable[Response]]) -> list[BaseRoute]:
        """The page at `/`, where `for_others` answers who shows no pages, and what it loads."""

        async def index(request: Request) -> Response:
            shows = wants_page(request.headers.get("accept", ""))
            response = self._answer(INDEX, request) if shows else await for_others()
            response.headers["vary"] = "accept"
            return response

        return [
            openapi.KnownRoute("/", index, methods=["GET"], include_in_schema=False),
            openapi.KnownRoute(ASSETS_PATH, self._asset, methods=["GET"], include_in_schema=False),
        ]

    async def _asset(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self._files:
            raise errors.NotFound(f"the page has no file {name[:100]!r}")
        return self._answer(name, request)

    def _answer(self, name: str, request: Request) -> Response:
        file = self._files[name]
        headers = {**HEADERS, "etag": file.etag}
        if file.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(file.body, media_type=file.media_type, headers=headers)


def without_comments(text: str) -> str:
    """The same program, style sheet or page in fewer bytes: no lines that are a comment, none empty, no indents."""
    lines = (line.strip() for line in text.splitlines())
    return "\n".join(line for line in lines if line and not COMMENT.match(line)) + "\n"


def without_gaps(style: str) -> str:
    """The same style sheet without the spaces that mean nothing; none of these signs may stand in a string of it."""
    return GAP.sub(r"\1", style)


def _read(path: Path) -> File:
    text = without_comments(path.read_text(encoding="utf-8"))
    body = (without_gaps(text) if path.suffix == ".css" else text).encode()
    return File(body, MEDIA_TYPES[path.suffix], f'"{hashlib.sha256(body).hexdigest()[:32]}"')
