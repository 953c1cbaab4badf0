"""What became of objects, and when: a watch in a thread of its own that notes the moment in which each state came.

The API's own timestamps have whole seconds only. A moment here is when the bench heard of it, a few milliseconds after
the API server had it.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from bench.processes import BenchFailed
from cluster.admin import Admin, Object
from cluster.harness.control_plane import ControlPlane
from modelengine import kinds
from modelengine_kube import resources
from modelengine_kube.resources import Resource

WATCH_S = "3600"

State = TypeVar("State")


@dataclass(frozen=True, slots=True)
class Seen(Generic[State]):
    at: float
    type: str
    state: State


class Watching(Generic[State]):
    """`reduce` makes of each object what is of interest, so that a thousand large ones can be kept."""

    def __init__(self, reduce: Callable[[Object], State]) -> None:
        self._reduce = reduce
        self._seen: list[Seen[State]] = []
        self._news = threading.Condition()

    def note(self, event: Object) -> None:
        at = time.perf_counter()
        if event["type"] in ("ADDED", "MODIFIED", "DELETED"):
            with self._news:
                self._seen.append(Seen(at, event["type"], self._reduce(event["object"])))
                self._news.notify_all()

    @property
    def count(self) -> int:
        return len(self._seen)

    def first(self, check: Callable[[Seen[State]], bool], timeout_s: float, what: str, start: int = 0) -> float:
        """The moment of the first state that passes; those before number `start` are not asked. Waits for it."""
        deadline = time.monotonic() + timeout_s
        with self._news:
            while True:
                for seen in self._seen[start:]:
                    if check(seen):
                        return seen.at
                start = max(start, len(self._seen))
                left = deadline - time.monotonic()
                if left <= 0:
                    raise BenchFailed(f"not within {timeout_s:g} s: {what}")
                self._news.wait(left)


@contextmanager
def watching(
    plane: ControlPlane,
    resource: Resource,
    namespace: str | None,
    reduce: Callable[[Object], State],
    **query: str,
) -> Iterator[Watching[State]]:
    """What is there already is told first."""
    admin = Admin(plane)
    made = Watching(reduce)
    over = threading.Event()

    def follow() -> None:
        # Its connection breaks when the cluster ends.
        with contextlib.suppress(OSError, http.client.HTTPException, json.JSONDecodeError):
            for event in admin.watch(resource, namespace, "", timeoutSeconds=WATCH_S, **query):
                if over.is_set():
                    return
                made.note(event)

    threading.Thread(target=follow, daemon=True).start()
    try:
        yield made
    finally:
        over.set()


def registries(plane: ControlPlane, namespace: str | None) -> contextlib.AbstractContextManager[Watching[Listed]]:
    """The registry of one namespace, or those of all."""
    fields = f"metadata.name={kinds.REGISTRY_NAME}"
    return watching(plane, resources.CONFIG_MAPS, namespace, listed, fieldSelector=fields)


@dataclass(frozen=True, slots=True)
class Listed:
    """The pods that a registry lists."""

    namespace: str
    pods: frozenset[str]


def listed(registry: Object) -> Listed:
    entries = [json.loads(value) for value in (registry.get("data") or {}).values()]
    pods = frozenset(service["pod"] for entry in entries for service in entry["services"])
    return Listed(registry["metadata"]["namespace"], pods)


def condition(obj: Object, kind: str) -> bool:
    """Whether a condition of the object is true."""
    conditions: list[dict[str, Any]] = obj.get("status", {}).get("conditions") or []
    return any(told["type"] == kind and told["status"] == "True" for told in conditions)
