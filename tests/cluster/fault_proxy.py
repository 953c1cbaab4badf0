"""Stands between an operator and the API server, counts its writes and breaks what a test wants broken.

Plain HTTP on the operator's side, so that no certificate is needed there. It runs in a thread of its own; a test calls
its methods from any other.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

import aiohttp
from aiohttp import web

from cluster.harness.control_plane import ControlPlane
from cluster.harness.credentials import SERVER
from modelengine_kube.resources import Resource

FORWARDED = ("Authorization", "Content-Type", "Accept", "User-Agent")
WRITES = ("POST", "PUT", "PATCH", "DELETE")
GONE = {
    "type": "ERROR",
    "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"},
}


class Moment(Enum):
    """Of a write: not yet forwarded; done, but not answered; answered."""

    BEFORE = auto()
    COMMITTED = auto()
    REPLIED = auto()


@dataclass
class _Answer:
    """Instead of the API server's, to requests for which `when` is so; `left` times."""

    when: Callable[[web.Request], bool]
    code: int
    headers: dict[str, str]
    left: float


@dataclass(eq=False)
class _Stream:
    """A watch that is open."""

    path: str
    lines: asyncio.Queue[bytes | None] = field(default_factory=asyncio.Queue)


class FaultProxy:
    def __init__(self, plane: ControlPlane) -> None:
        self._trust = ssl.create_default_context(cafile=plane.authority.file("ca.crt"))
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._port = 0
        self._answers: list[_Answer] = []
        self._streams: set[_Stream] = set()
        self._deaf: list[str] = []
        self._crash: tuple[int, Moment, Callable[[], None]] | None = None
        # Method and path of each write but those of the Lease.
        self.writes: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def crash_at(self, write: int, moment: Moment, crash: Callable[[], None]) -> None:
        """At the n-th write from now, the first is 0."""
        self.writes.clear()
        self._crash = (write, moment, crash)

    @property
    def has_crashed(self) -> bool:
        return self._crash is None

    @contextmanager
    def answering(
        self,
        code: int,
        *resources: Resource,
        methods: Sequence[str] = (),
        watches: bool | None = None,
        times: float = float("inf"),
        **headers: str,
    ) -> Iterator[None]:
        """This code, to requests for these kinds (none: all), of these methods, watches only or no watches."""

        def when(request: web.Request) -> bool:
            return (
                (not resources or any(_is_for(request.path, resource) for resource in resources))
                and (not methods or request.method in methods)
                and watches in (None, _is_watch(request))
            )

        rule = _Answer(when, code, headers, times)
        self._answers.append(rule)
        try:
            yield
        finally:
            self._answers.remove(rule)

    @contextmanager
    def silent(self, resource: Resource) -> Iterator[None]:
        """Watches of this kind stay open, those that come as well, and nothing arrives."""
        self._deaf.append(f"/{resource.plural}")
        try:
            yield
        finally:
            self._deaf.remove(f"/{resource.plural}")

    def send(self, resource: Resource, *events: dict[str, Any]) -> None:
        """Puts events into the open watches of a kind."""
        lines = b"".join(json.dumps(event).encode() + b"\n" for event in events)
        self._put(resource, lines)

    def cut(self, resource: Resource) -> None:
        """Ends the open watches of a kind."""
        self._put(resource, None)

    def watches(self, resource: Resource) -> int:
        return sum(stream.path.endswith(f"/{resource.plural}") for stream in list(self._streams))

    def _put(self, resource: Resource, lines: bytes | None) -> None:
        for stream in list(self._streams):
            if stream.path.endswith(f"/{resource.plural}"):
                self._loop.call_soon_threadsafe(stream.lines.put_nowait, lines)

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(10)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        app = web.Application(client_max_size=8 * 2**20)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        connector = aiohttp.TCPConnector(ssl=self._trust, limit=0)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as self._upstream:
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self._port = runner.addresses[0][1]
            self._ready.set()
            await self._stop.wait()
            for stream in self._streams:
                stream.lines.put_nowait(None)
            await runner.cleanup()
        # TLS connections take a moment to close.
        await asyncio.sleep(0.2)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        for rule in self._answers:
            if rule.left > 0 and rule.when(request):
                rule.left -= 1
                status = {"kind": "Status", "status": "Failure", "code": rule.code, "message": "by the fault proxy"}
                return web.json_response(status, status=rule.code, headers=rule.headers)
        try:
            if _is_watch(request):
                return await self._watch(request)
            if request.method in WRITES and "/leases" not in request.path:
                return await self._write(request)
            return await self._forward(request)
        except aiohttp.ClientConnectionError:
            # As the API server itself would, when it is away.
            assert request.transport is not None
            request.transport.abort()
            return web.Response()

    async def _write(self, request: web.Request) -> web.StreamResponse:
        number = len(self.writes)
        self.writes.append(f"{request.method} {request.path}")
        at = self._crash
        if at is None or at[0] != number:
            return await self._forward(request)
        _, moment, crash = at
        self._crash = None
        if moment is Moment.BEFORE:
            crash()
            return web.Response(status=500)
        answer = await self._forward(request)
        if moment is Moment.COMMITTED:
            crash()
            return answer
        await answer.prepare(request)
        await answer.write_eof()
        crash()
        return answer

    def _ask(self, request: web.Request, body: bytes) -> Any:
        headers = {name: request.headers[name] for name in FORWARDED if name in request.headers}
        timeout = aiohttp.ClientTimeout(total=None)
        return self._upstream.request(
            request.method, f"{SERVER}{request.path_qs}", data=body or None, headers=headers, timeout=timeout
        )

    async def _forward(self, request: web.Request) -> web.Response:
        async with self._ask(request, await request.read()) as answer:
            kept = {name: answer.headers[name] for name in ("Content-Type", "Retry-After") if name in answer.headers}
            return web.Response(status=answer.status, body=await answer.read(), headers=kept)

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        async with self._ask(request, b"") as answer:
            if answer.status != 200:
                return web.Response(status=answer.status, body=await answer.read(), content_type="application/json")
            response = web.StreamResponse(headers={"Content-Type": "application/json"})
            await response.prepare(request)
            stream = _Stream(request.path)
            self._streams.add(stream)
            pump = asyncio.create_task(self._pump(answer, stream))
            try:
                while (lines := await stream.lines.get()) is not None:
                    await response.write(lines)
            except ConnectionError:
                # The operator is gone.
                pass
            finally:
                self._streams.discard(stream)
                pump.cancel()
                await asyncio.wait([pump])
            return response

    async def _pump(self, answer: aiohttp.ClientResponse, stream: _Stream) -> None:
        try:
            async for chunk in answer.content.iter_any():
                if not any(stream.path.endswith(end) for end in self._deaf):
                    stream.lines.put_nowait(chunk)
        except aiohttp.ClientError:
            # The API server is gone; so is the watch.
            pass
        stream.lines.put_nowait(None)


def _is_watch(request: web.Request) -> bool:
    return request.query.get("watch") in ("true", "1")


def _is_for(path: str, resource: Resource) -> bool:
    """Its collection, one object or a subresource of one."""
    return f"/{resource.plural}/" in f"{path}/"


@contextmanager
def running(plane: ControlPlane) -> Iterator[FaultProxy]:
    proxy = FaultProxy(plane)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
