"""A node that is none, as a process: every pod that the scheduler gives it starts at once and is ready a moment later.

`python -m bench.cluster.kubelet NODE` with an administrator's KUBECONFIG. All its pods are this process: it answers on
the engines' port what an engine answers when the operator asks it. It ends with its stdin.
"""

from __future__ import annotations

import asyncio
import datetime
import itertools
import sys
from typing import Any

from aiohttp import web

from modelengine import kinds
from modelengine_kube import connect, resources
from modelengine_kube.api import KubeApi, Object
from modelengine_kube.copies import Key
from modelengine_kube.errors import KubeError
from modelengine_kube.reflector import Reflector

SECONDS, FINE = "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S.%fZ"
LEASE_NAMESPACE = "kube-node-lease"
# The node controller takes a node for dead after 50 s without.
BEAT_S = 5.0
# From a pod's start until it is ready: enough that the operator sees both.
START_S = 0.2
AT_ONCE = 16
MODEL = {"parameters": 1, "context_length": 1, "architecture": "Stub", "dtype": "float32", "device": "cpu"}


def now(form: str = SECONDS) -> str:
    return datetime.datetime.now(datetime.UTC).strftime(form)


def address(number: int) -> str:
    """Of this machine, and a pod's own."""
    return f"127.1.{number // 250}.{number % 250 + 1}"


def status(image: str, ip: str, is_ready: bool) -> Object:
    """As a kubelet tells it of a pod whose engine runs."""
    moment = now()
    conditions = [
        {"type": kind, "status": str(is_so), "lastTransitionTime": moment}
        for kind, is_so in (
            ("PodScheduled", True),
            ("Initialized", True),
            ("ContainersReady", is_ready),
            ("Ready", is_ready),
        )
    ]
    engine = {
        "name": kinds.ENGINE_CONTAINER,
        "image": image,
        "imageID": "",
        "restartCount": 0,
        "ready": is_ready,
        "started": is_ready,
        "state": {"running": {"startedAt": moment}},
        "lastState": {},
    }
    return {
        "phase": "Running",
        "podIP": ip,
        "podIPs": [{"ip": ip}],
        "startTime": moment,
        "conditions": conditions,
        "containerStatuses": [engine],
    }


class Kubelet:
    def __init__(self, api: KubeApi, node: str) -> None:
        self._api = api
        self._node = node
        self._numbers = itertools.count()
        self._known: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._places = asyncio.Semaphore(AT_ONCE)

    async def run(self) -> None:
        follow = Reflector(self._api, resources.PODS, None, self._changed, fields=f"spec.nodeName={self._node}")
        async with asyncio.TaskGroup() as group:
            group.create_task(self._beat())
            group.create_task(follow.run_forever())

    async def _beat(self) -> None:
        while True:
            beat = {"spec": {"renewTime": now(FINE)}}
            try:
                await self._api.merge(resources.LEASES, LEASE_NAMESPACE, self._node, beat)
            except KubeError as failure:
                print(failure.message, file=sys.stderr)
            await asyncio.sleep(BEAT_S)

    def _changed(self, key: Key, obj: Object | None) -> None:
        if obj is None or obj["metadata"]["uid"] in self._known:
            return
        self._known.add(obj["metadata"]["uid"])
        task = asyncio.create_task(self._start(key, obj["spec"]["containers"][0]["image"]))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _start(self, key: Key, image: str) -> None:
        ip = address(next(self._numbers))
        await self._tell(key, status(image, ip, is_ready=False))
        await asyncio.sleep(START_S)
        await self._tell(key, status(image, ip, is_ready=True))

    async def _tell(self, key: Key, told: Object) -> None:
        namespace, name = key
        async with self._places:
            await self._api.merge(resources.PODS, namespace, f"{name}/status", {"status": told})


async def answer_as_engines() -> None:
    """On every address of this machine, and so on each pod's."""

    def message(msg: Any) -> web.Response:
        return web.json_response({"state": "ok", "msg": msg})

    async def loading(_: web.Request) -> web.Response:
        return message({"stage": "loading", "bytes": None, "total": None})

    async def info(_: web.Request) -> web.Response:
        return message(MODEL)

    app = web.Application()
    app.router.add_get("/loading", loading)
    app.router.add_post("/engine/info", info)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "0.0.0.0", kinds.ENGINE_PORT).start()


async def main(node: str) -> None:
    await answer_as_engines()
    async with await connect.client() as client:
        works = asyncio.create_task(Kubelet(KubeApi(client), node).run())
        over = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
        done, _ = await asyncio.wait((works, over), return_when=asyncio.FIRST_COMPLETED)
        works.cancel()
        if works in done:
            works.result()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
