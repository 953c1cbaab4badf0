"""The proxy that most would write first: a FastAPI route, an httpx2 client, each part passed on as it comes.

`python -m bench.gateway.fastapi_proxy UPSTREAM_URL`; its port is its first line on stdout.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator

import httpx2
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from starlette.background import BackgroundTask

from modelengine_api import programs

PASSED_ON = ("content-type",)


def create(upstream: str) -> FastAPI:
    client = httpx2.AsyncClient(
        base_url=upstream,
        timeout=60,
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=4096),
    )

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with client:
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/{path:path}")
    async def relay(path: str, request: Request) -> Response:
        headers = {name: request.headers[name] for name in PASSED_ON if name in request.headers}
        asked = client.build_request("POST", f"/{path}", content=await request.body(), headers=headers)
        answer = await client.send(asked, stream=True)
        return StreamingResponse(
            answer.aiter_raw(),
            status_code=answer.status_code,
            headers={name: answer.headers[name] for name in PASSED_ON if name in answer.headers},
            background=BackgroundTask(answer.aclose),
        )

    return app


def main(upstream: str) -> None:
    sock = programs.listen("127.0.0.1", 0)
    print(sock.getsockname()[1], flush=True)
    config = uvicorn.Config(create(upstream), http="httptools", loop="uvloop", access_log=False, log_level="warning")
    uvicorn.Server(config).run(sockets=[sock])


if __name__ == "__main__":
    main(sys.argv[1])
