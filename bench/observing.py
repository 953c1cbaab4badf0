"""What ids, metrics and access lines cost: `python -m bench.observing`.

The same answer through the layers of a server of ours, with and without `Observed` around them, called as uvicorn calls
an app, so that no socket's noise hides microseconds. CPU time, the best of several rounds: the work never varies.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from functools import partial

from fastapi import FastAPI, Response
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp, Message, Scope

from modelengine.env import LogFormat
from modelengine_api import calls, doors, limits, logs, observing, streaming
from modelengine_api.metrics import Requests

ROUNDS = 7
REQUESTS = 300
PATH = "/engine/inference"
LINE = b'{"state":"ok","msg":{"content":"word","done":false}}\n'


def app_of(chunks: int) -> FastAPI:
    """The layers of a front door over an answer of so many lines."""
    app = FastAPI()
    doors.install(app)
    app.add_middleware(limits.BodyLimit)

    async def lines() -> AsyncIterator[bytes]:
        for _ in range(chunks):
            yield LINE
        calls.asked_for("demo")
        calls.answered({"prompt_length": 9, "response_length": chunks})

    @app.post(PATH)
    async def inference() -> Response:
        return streaming.LineStream(lines())

    return app


async def once(app: ASGIApp) -> None:
    headers = [(b"host", b"x"), (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")]
    scope: Scope = {
        "type": "http", "http_version": "1.1", "method": "POST", "path": PATH, "raw_path": PATH.encode(),
        "root_path": "", "query_string": b"", "headers": headers, "scheme": "http", "server": None, "client": None,
    }  # fmt: skip
    left = asyncio.Event()

    async def receive() -> Message:
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        pass

    await app(scope, receive, send)


def seconds_per_request(make: Callable[[], ASGIApp]) -> float:
    """Of CPU time, the best round's mean."""

    async def rounds() -> float:
        app = make()
        best = float("inf")
        for _ in range(ROUNDS):
            gc.collect()
            began = time.process_time()
            for _ in range(REQUESTS):
                await once(app)
            best = min(best, (time.process_time() - began) / REQUESTS)
        return best

    return asyncio.run(rounds())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=200, help="lines of the long answer")
    chunks = parser.parse_args().chunks

    def observed(count: int) -> ASGIApp:
        return observing.Observed(app_of(count), Requests(CollectorRegistry()))

    short, long = 1, 1 + chunks
    plain = [seconds_per_request(partial(app_of, count)) for count in (short, long)]
    with_all = [seconds_per_request(partial(observed, count)) for count in (short, long)]
    logs.configure("INFO", LogFormat.JSON)
    with open(os.devnull, "w") as nowhere:
        for handler in logging.getLogger().handlers:
            assert isinstance(handler, logging.StreamHandler)
            handler.setStream(nowhere)
        logged = seconds_per_request(lambda: observed(short))
    print("| | without | with ids and metrics | and a JSON line |")
    print("|---|---|---|---|")
    print(f"| us per request | {plain[0] * 1e6:.1f} | {with_all[0] * 1e6:.1f} | {logged * 1e6:.1f} |")
    per_chunk = [(whole - one) / chunks * 1e6 for one, whole in (plain, with_all)]
    print(f"| us per chunk | {per_chunk[0]:.2f} | {per_chunk[1]:.2f} | |")


if __name__ == "__main__":
    main()
