"""From `kubectl apply` to Ready and to the first token, on a real node with real images: what a user waits for.

Each round applies the first example anew, in a namespace where it was before, so that images and files are warm; the
very first time does not count.
"""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable

from bench import stats
from bench.cluster import release as releases
from bench.cluster import watching
from bench.cluster.options import Options
from bench.cluster.release import EXAMPLE, MODEL, NAMESPACE, READY_S
from bench.cluster.watching import Listed, Seen
from bench.processes import BenchFailed
from bench.report import Table
from bench.stats import Sample
from cluster.admin import Object
from cluster.releases import Release
from modelengine import ChatClient, errors, kinds
from modelengine_kube import resources

HELLO = ({"role": "user", "content": "hello"},)
POLL_S = 0.02
NOTES = (
    "seconds since `kubectl apply` was started, of examples/demo.yaml with images on the node and files in the page",
    "cache: until kubectl has ended, until a pod is made and is on the node, until the kubelet tells that its",
    "container runs, until the engine answers /health, and /ready (model loaded), until the kubelet tells that the pod",
    "is ready, until the registry lists it, until the status is Ready. A client that began to wait at the apply: until",
    "wait_service_available at the front door has returned, and until the first part of a streamed chat through it.",
)


def run(options: Options) -> list[Table]:
    with releases.running() as (release, _):
        journey(release)
        rounds = stats.take_turns({"demo": lambda: journey(release)}, options.rounds)
    return [Table("apply: from the example to the first token", NOTES, rounds)]


def journey(release: Release) -> Sample:
    """One apply, and the end of what it made."""
    plane = release.plane
    with (
        watching.watching(plane, resources.PODS, NAMESPACE, lambda pod: pod) as pods,
        watching.watching(plane, resources.MODELENGINES, NAMESPACE, lambda engine: engine) as engines,
        watching.registries(plane, NAMESPACE) as registries,
    ):
        began = time.perf_counter()
        client = Client(release.address)
        client.start()
        plane.kubectl("apply", "-f", EXAMPLE, "-n", NAMESPACE)
        applied = time.perf_counter()

        def pod_is(check: Callable[[Object], bool], what: str) -> float:
            def passes(seen: Seen[Object]) -> bool:
                return seen.at > began and seen.type != "DELETED" and check(seen.state)

            return pods.first(passes, READY_S, f"a pod that {what}") - began

        def lists(seen: Seen[Listed]) -> bool:
            return seen.at > began and bool(seen.state.pods)

        def is_ready(seen: Seen[Object]) -> bool:
            return seen.at > began and seen.type != "DELETED" and watching.condition(seen.state, "Ready")

        sample = {
            "kubectl s": applied - began,
            "pod made s": pod_is(lambda pod: True, "is made"),
            "scheduled s": pod_is(lambda pod: "nodeName" in pod["spec"], "is scheduled"),
            "container s": pod_is(runs, "runs"),
        }
        ip = next(pod["status"]["podIP"] for pod in release.pods(MODEL, NAMESPACE) if "podIP" in pod["status"])
        sample |= {
            "HTTP up s": answers(ip, "/health") - began,
            "model loaded s": answers(ip, "/ready") - began,
            "pod ready s": pod_is(lambda pod: watching.condition(pod, "Ready"), "is ready"),
            "listed s": registries.first(lists, READY_S, "a registry that lists it") - began,
            "Ready s": engines.first(is_ready, READY_S, "the status Ready") - began,
        }
        client.join(READY_S)
        sample |= client.sample(began)
    releases.delete(release)
    return sample


def runs(pod: Object) -> bool:
    told = pod["status"].get("containerStatuses") or ()
    return "podIP" in pod["status"] and any("running" in container["state"] for container in told)


def answers(ip: str, path: str) -> float:
    """The moment of the first 200."""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection(ip, kinds.ENGINE_PORT, timeout=5)
        try:
            connection.request("GET", path)
            if connection.getresponse().status == 200:
                return time.perf_counter()
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(POLL_S)
    raise BenchFailed(f"{ip} does not answer {path} within {READY_S:g} s")


class Client(threading.Thread):
    """Waits for the name at the front door and chats by way of it, as a user's program does."""

    def __init__(self, address: str) -> None:
        super().__init__(daemon=True)
        self._address = address
        self._failure: errors.ModelEngineError | None = None
        self._listed = self._first = 0.0

    def run(self) -> None:
        try:
            with ChatClient(self._address, relayed=True) as client:
                client.wait_service_available(MODEL, READY_S)
                self._listed = time.perf_counter()
                with client.chat(MODEL, HELLO, stream=True) as stream:
                    next(stream)
                    self._first = time.perf_counter()
        except errors.ModelEngineError as failure:
            self._failure = failure

    def sample(self, began: float) -> Sample:
        """Raises BenchFailed where it got no answer."""
        if not self._first:
            raise BenchFailed(f"the client got no answer: {self._failure}")
        return {"client waited s": self._listed - began, "first token s": self._first - began}
