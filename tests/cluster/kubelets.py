"""A node that is none: it takes pods from the real scheduler and says of each what a test wants, as a kubelet would.

So a pod can be ready in a moment, in a crash loop, or out of memory, and is deleted gracefully, without a container.
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import itertools
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from cluster.admin import STRATEGIC, Admin, Object, Refused
from cluster.harness.control_plane import ControlPlane
from modelengine import kinds
from modelengine_kube import resources
from modelengine_kube.resources import Resource

NODES = Resource("v1", "Node", "nodes")
NODE_LEASES = "kube-node-lease"
# Else the node controller would take the node for dead after 50 s.
BEAT_S = 5.0
STOPPING_S = 0.3

_numbers = itertools.count(1)
# From a pod's containers to the status that the kubelet gives it.
State = Callable[[Object], Object]


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _of(phase: str, state: Object, *, ready: bool = False, **container: Any) -> State:
    """The status of a pod whose engine container is so."""

    def status(pod: Object) -> Object:
        told = {
            "name": kinds.ENGINE_CONTAINER,
            "image": pod["spec"]["containers"][0]["image"],
            "imageID": "",
            "restartCount": 0,
            "ready": ready,
            "started": ready,
            "state": state,
            "lastState": {},
            **container,
        }
        return {"phase": phase, "conditions": conditions(ready), "containerStatuses": [told]}

    return status


def conditions(ready: bool) -> list[Object]:
    return [{"type": kind, "status": str(ready), "lastTransitionTime": now()} for kind in ("Ready", "ContainersReady")]


def ended(code: int, reason: str = "Error", message: str = "") -> Object:
    told = {"exitCode": code, "reason": reason, "message": message, "startedAt": now(), "finishedAt": now()}
    return {"terminated": told}


def waiting(reason: str, message: str = "") -> Object:
    return {"waiting": {"reason": reason, "message": message}}


def unheard(pod: Object) -> Object:
    """What the node controller makes of a pod that was ready, when it hears nothing of the node."""
    status = READY(pod)
    status["conditions"][0] = {"type": "Ready", "status": "False", "lastTransitionTime": now()}
    return status


READY = _of("Running", {"running": {"startedAt": now()}}, ready=True)
STARTING = _of("Running", {"running": {"startedAt": now()}})


def crashing(code: int, message: str = "", reason: str = "Error", restarts: int = 3) -> State:
    back_off = waiting("CrashLoopBackOff", "back-off 10s restarting failed container")
    return _of("Running", back_off, lastState=ended(code, reason, message), restartCount=restarts)


def pulling(reason: str, message: str) -> State:
    return _of("Pending", waiting(reason, message))


class Kubelet:
    """`says` sets what is told of the pods of one ModelEngine; of the others it is that they are ready."""

    def __init__(self, admin: Admin) -> None:
        self.name = f"stub-{next(_numbers)}"
        self._admin = admin
        self._states: dict[tuple[str, str], State] = {}
        self._addresses: dict[str, str] = {}
        self._stopping: set[str] = set()
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._beat, self._follow)]
        # How long a pod takes from being told to stop to its end.
        self.stopping_s = STOPPING_S

    def says(self, namespace: str, engine: str, state: State) -> None:
        """Of those that are there and of those that come."""
        self._states[namespace, engine] = state
        selector = kinds.as_selector(kinds.selector(engine))
        for pod in self._admin.list(resources.PODS, namespace, selector):
            if pod["spec"].get("nodeName") == self.name:
                self._tell(pod)

    def start(self) -> None:
        size = {"cpu": "1000", "memory": "1Ti", "pods": "5000", "ephemeral-storage": "10Ti"}
        status = {"capacity": size, "allocatable": size, "conditions": [self._ready()]}
        self._admin.create(NODES, {"metadata": {"name": self.name}, "status": status})
        # The node controller takes no beat of a Lease that it has once seen without a time.
        lease = {"holderIdentity": self.name, "leaseDurationSeconds": 40, "renewTime": _moment()}
        self._admin.create(resources.LEASES, {"metadata": {"name": self.name, "namespace": NODE_LEASES}, "spec": lease})
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._admin.delete(NODES, None, self.name)
        for thread in self._threads:
            thread.join(10)
        self._admin.close()

    def _beat(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(Refused, OSError):
                self._admin.merge(resources.LEASES, NODE_LEASES, self.name, {"spec": {"renewTime": _moment()}})
                # After an outage of the API server the node controller may have taken it for dead.
                status = {"conditions": [self._ready()]}
                self._admin.merge(NODES, None, self.name, {"status": status}, "status", kind=STRATEGIC)
            self._ended.wait(BEAT_S)

    def _ready(self) -> Object:
        return {"type": "Ready", "status": "True", "reason": "Stub", "message": "", "lastHeartbeatTime": now()}

    def _follow(self) -> None:
        mine = f"spec.nodeName={self.name}"
        while not self._ended.is_set():
            with contextlib.suppress(Refused, OSError, http.client.HTTPException):
                listing = self._admin.call("GET", resources.PODS.path(None), fieldSelector=mine)
                for pod in listing["items"]:
                    self._look(pod)
                version = listing["metadata"]["resourceVersion"]
                # Short, so that the thread sees its end.
                for event in self._admin.watch(resources.PODS, None, version, timeoutSeconds="5", fieldSelector=mine):
                    if event["type"] in ("ADDED", "MODIFIED"):
                        self._look(event["object"])
                    if self._ended.is_set():
                        return

    def _look(self, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        if "deletionTimestamp" in pod["metadata"]:
            if uid not in self._stopping:
                self._stopping.add(uid)
                timer = threading.Timer(self.stopping_s, self._remove, [pod])
                timer.daemon = True
                timer.start()
        elif uid not in self._addresses or self._was_overruled(pod):
            self._tell(pod)

    def _was_overruled(self, pod: Object) -> bool:
        """The node controller has set a pod unready that we told ready."""
        meta = pod["metadata"]
        state = self._states.get((meta["namespace"], meta["labels"].get(kinds.LABEL_ENGINE, "")), READY)
        is_ready = any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", ()))
        return state is READY and bool(pod["status"].get("podIP")) and not is_ready

    def _remove(self, pod: Object) -> None:
        with contextlib.suppress(Refused, OSError):
            meta = pod["metadata"]
            self._admin.delete(resources.PODS, meta["namespace"], meta["name"], gracePeriodSeconds=0)

    def _tell(self, pod: Object) -> None:
        meta = pod["metadata"]
        engine = meta["labels"].get(kinds.LABEL_ENGINE, "")
        state = self._states.get((meta["namespace"], engine), READY)
        if meta["uid"] not in self._addresses:
            # Of this very machine: who asks a pod gets a refusal at once.
            count = len(self._addresses) + 2
            self._addresses[meta["uid"]] = f"127.1.{count // 250}.{count % 250 + 1}"
        address = self._addresses[meta["uid"]]
        status = {"podIP": address, "podIPs": [{"ip": address}], "startTime": now(), **state(pod)}
        with contextlib.suppress(Refused):
            self._admin.merge(
                resources.PODS, meta["namespace"], meta["name"], {"status": status}, "status", kind=STRATEGIC
            )


@contextmanager
def running(plane: ControlPlane) -> Iterator[Kubelet]:
    kubelet = Kubelet(Admin(plane))
    kubelet.start()
    try:
        yield kubelet
    finally:
        kubelet.stop()


@contextmanager
def downloading(address: str) -> Iterator[None]:
    """A server at a pod's address that says how far a download is: further each time that it is asked."""
    counts = itertools.count(1)

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            progress = {"stage": "downloading", "bytes": next(counts) * 1_000_000, "total": 10**12}
            body = json.dumps({"state": "ok", "msg": progress}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer((address, kinds.ENGINE_PORT), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def _moment() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
