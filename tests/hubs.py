"""A small model hub on the loopback: the few routes that a snapshot download asks for, with misbehaviour on demand."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

COMMIT = "c" * 40
CHUNK = 1024 * 1024


@dataclass
class FakeHub:
    """Has one repository, `org/tiny`, with one revision, `main`."""

    files: Mapping[str, bytes]
    # Between the chunks of a file.
    pause_s: float = 0.0
    # Instead of an answer: status and the hub's own code for it.
    refusal: tuple[int, str] | None = None
    # Of the file's bytes only so many are sent.
    cut_at: int | None = None
    asked: list[str] = field(default_factory=list)
    tokens: set[str | None] = field(default_factory=set)

    @property
    def downloads(self) -> list[str]:
        """The files that were sent, by name."""
        return [path.rpartition("/")[2] for path in self.asked if path.startswith("GET") and "/resolve/" in path]

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.middleware("http")
        async def note(request: Request, call_next):  # type: ignore[no-untyped-def]
            self.asked.append(f"{request.method} {request.url.path}")
            self.tokens.add(request.headers.get("authorization"))
            if self.refusal is not None:
                status, code = self.refusal
                return Response(status_code=status, headers={"x-error-code": code} if code else {})
            return await call_next(request)

        @app.get("/api/models/org/tiny/revision/{revision}")
        def model(revision: str) -> Response:
            if revision not in ("main", COMMIT):
                return Response(status_code=404, headers={"x-error-code": "RevisionNotFound"})
            siblings = ",".join(f'{{"rfilename": "{name}"}}' for name in self.files)
            body = f'{{"sha": "{COMMIT}", "id": "org/tiny", "siblings": [{siblings}]}}'
            return Response(body, media_type="application/json")

        @app.get("/api/models/org/tiny/tree/{revision}")
        def tree(revision: str) -> list[dict[str, object]]:
            return [
                {"type": "file", "path": name, "size": len(data), "oid": etag(data)}
                for name, data in self.files.items()
            ]

        @app.api_route("/org/tiny/resolve/{revision}/{name}", methods=["GET", "HEAD"])
        def resolve(request: Request, revision: str, name: str) -> Response:
            data = self.files[name]
            headers = {
                "x-repo-commit": COMMIT,
                "etag": f'"{etag(data)}"',
                "content-length": str(len(data)),
                "content-type": "application/octet-stream",
            }
            if request.method == "HEAD":
                return Response(headers=headers)
            if self.cut_at is not None:
                headers.pop("content-length")
            return StreamingResponse(self._chunks(data[: self.cut_at]), headers=headers)

        @app.get("/api/models/{repository:path}")
        def unknown(repository: str) -> Response:
            return Response(status_code=404, headers={"x-error-code": "RepoNotFound"})

        return app

    async def _chunks(self, data: bytes) -> AsyncIterator[bytes]:
        for start in range(0, len(data), CHUNK):
            yield data[start : start + CHUNK]
            await asyncio.sleep(self.pause_s)


def etag(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()
