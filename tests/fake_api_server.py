"""A stand-in for the API server that holds registry ConfigMaps, speaks LIST and WATCH, and fails on demand.

For tests of what follows a real one: the faults that a real API server shows only when its machine or its network
breaks. Runs in a thread of the test process; its methods are called from the test's own thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from aiohttp import web

from modelengine import kinds

Result = TypeVar("Result")
SELECTOR = f"metadata.name={kinds.REGISTRY_NAME}"


class FakeApiServer:
    """Use it with `with`. `port` stays the same over `stop` and `start`."""

    def __init__(self) -> None:
        self.port = 0
        self.lists = 0
        self.watches = 0
        # Requests that a front door has no right to make.
        self.overreaches: list[str] = []
        # Faults; None or False is none.
        self.list_status: int | None = None
        self.watch_status: int | None = None
        self.list_body: bytes | None = None
        self.forbidden: set[str] = set()
        self.is_silent = False
        self._version = 100
        self._compacted = 0
        self._objects: dict[str, dict[str, Any]] = {}
        self._history: list[tuple[int, str, dict[str, Any]]] = []
        self._changed = asyncio.Event()
        self._cuts: set[asyncio.Transport] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fake-api-server")
        self._runner: web.AppRunner | None = None

    def __enter__(self) -> FakeApiServer:
        self._thread.start()
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # What tests do.

    def start(self) -> None:
        self._run(self._start)

    def stop(self) -> None:
        """As kill -9 leaves it: nobody listens, and open watches break."""
        self._run(self._stop)

    def write(self, namespace: str, data: Mapping[str, Any] | None) -> None:
        """Creates the namespace's registry or replaces it."""
        event = "MODIFIED" if namespace in self._objects else "ADDED"
        self._run(lambda: self._tell(event, namespace, data))

    def delete(self, namespace: str) -> None:
        self._run(lambda: self._tell("DELETED", namespace, self._objects[namespace].get("data")))

    def forget_history(self) -> None:
        """As etcd's compaction: whoever watches from an older version than now is told to list again."""
        self._compacted = self._version

    def put_back(self, version: int) -> None:
        """As etcd restored from an old snapshot, on which the versions go on from an older one."""
        self._version = version
        self._objects.clear()
        self._history.clear()

    def break_watches(self) -> None:
        """Cuts every open connection."""
        self._run(self._cut)

    def kubeconfig(self, folder: Path) -> Path:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "fake", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
            "users": [{"name": "door", "user": {"token": "x"}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "door"}}],
            "current-context": "fake",
        }
        path = folder / "kubeconfig"
        path.write_text(yaml.safe_dump(config))
        return path

    # What the server does.

    def _run(self, step: Callable[[], Any]) -> None:
        async def run() -> None:
            result = step()
            if asyncio.iscoroutine(result):
                await result

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(10)

    async def _start(self) -> None:
        app = web.Application()
        app.router.add_get("/api/v1/configmaps", self._answer)
        app.router.add_get("/api/v1/namespaces/{namespace}/configmaps", self._answer)
        app.router.add_route("*", "/{path:.*}", self._overreach)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _stop(self) -> None:
        if self._runner is not None:
            self._cut()
            await self._runner.cleanup()
            self._runner = None

    def _cut(self) -> None:
        for transport in list(self._cuts):
            transport.abort()

    def _tell(self, event: str, namespace: str, data: Mapping[str, Any] | None) -> None:
        self._version += 1
        meta = {"name": kinds.REGISTRY_NAME, "namespace": namespace, "resourceVersion": str(self._version)}
        obj: dict[str, Any] = {"metadata": meta, **({} if data is None else {"data": dict(data)})}
        if event == "DELETED":
            del self._objects[namespace]
        else:
            self._objects[namespace] = obj
        self._history.append((self._version, event, {"apiVersion": "v1", "kind": "ConfigMap", **obj}))
        self._changed.set()
        self._changed = asyncio.Event()

    async def _overreach(self, request: web.Request) -> web.Response:
        self.overreaches.append(f"{request.method} {request.path_qs}")
        return _status(403, "forbidden")

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        namespace = request.match_info.get("namespace")
        if request.query.get("fieldSelector") != SELECTOR:
            return await self._overreach(request)
        if namespace in self.forbidden:
            return _status(403, f"configmaps is forbidden in the namespace {namespace}")
        return await (self._watch if "watch" in request.query else self._list)(request, namespace)

    async def _list(self, request: web.Request, namespace: str | None) -> web.StreamResponse:
        self.lists += 1
        if self.list_status is not None:
            return _status(self.list_status, "a fault")
        if self.list_body is not None:
            return web.Response(body=self.list_body, content_type="application/json")
        items = [obj for where, obj in self._objects.items() if namespace in (None, where)]
        return web.json_response({"metadata": {"resourceVersion": str(self._version)}, "items": items})

    async def _watch(self, request: web.Request, namespace: str | None) -> web.StreamResponse:
        self.watches += 1
        if self.watch_status is not None:
            return _status(self.watch_status, "a fault")
        response = web.StreamResponse(headers={"content-type": "application/json"})
        await response.prepare(request)
        assert isinstance(request.transport, asyncio.Transport)
        self._cuts.add(request.transport)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(int(request.query["timeoutSeconds"])):
                await self._tell_changes(response, namespace, int(request.query["resourceVersion"]))
        self._cuts.discard(request.transport)
        return response

    async def _tell_changes(self, response: web.StreamResponse, namespace: str | None, since: int) -> None:
        while True:
            changed = self._changed
            if since < self._compacted:
                gone = {"kind": "Status", "code": 410, "message": "too old resource version"}
                await response.write(_line("ERROR", gone))
                return
            for version, event, obj in self._history:
                if version > since and namespace in (None, obj["metadata"]["namespace"]) and not self.is_silent:
                    await response.write(_line(event, obj))
            since = since if self.is_silent else self._version
            await changed.wait()


def _status(code: int, message: str) -> web.Response:
    return web.json_response({"kind": "Status", "code": code, "message": message}, status=code)


def _line(event: str, obj: Mapping[str, Any]) -> bytes:
    return json.dumps({"type": event, "object": obj}).encode() + b"\n"
