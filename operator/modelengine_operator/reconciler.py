"""The loop of the operator: takes a key, looks, plans, writes what differs, says in the status how it is.

Level-based: what happened does not matter, only how it is now, so any step may be lost, doubled or cut by a crash. Two
queues, so that a pod's leaving the registry never waits behind a thousand ModelEngines.
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from typing import Any, TypeVar

from modelengine import kinds
from modelengine_kube import errors, resources
from modelengine_kube.api import Object
from modelengine_kube.copies import Key
from modelengine_kube.resources import Resource
from modelengine_operator import asking, findings, names, plan, statuses
from modelengine_operator.asking import Asking
from modelengine_operator.cluster import Cluster
from modelengine_operator.leadership import Leadership, NotLeading
from modelengine_operator.observed import Observed, most_telling
from modelengine_operator.settings import Settings
from modelengine_operator.spec import Engine
from modelengine_operator.transitions import Transitions
from modelengine_operator.workqueue import WorkQueue
from modelengine_operator.world import World

log = logging.getLogger(__name__)

ENGINE, REGISTRY = "modelengine", "registry"
WORKERS = 8
REGISTRY_WORKERS = 4
# After however long an outage, callers must not wait long for what has changed.
REGISTRY_BACK_OFF_S = 10.0
# Of many pods that load, so many are asked.
ASKED = 4
# A predecessor's objects go within seconds; nothing else tells when those without our labels are gone.
LOOK_AGAIN_S = 2.0
# Also without any event everything is looked at again.
RESYNC_S = 120.0
LOOK_AGAIN = {findings.REPLACING: LOOK_AGAIN_S, findings.OBJECT_CONFLICT: 10.0}
# Nothing tells when a quota or a policy that refused a write would take it.
WRITE_AGAIN_S = 15.0

AnyKey = TypeVar("AnyKey", bound=Hashable)
Learn = Callable[[Resource, Object], None]


@dataclass(slots=True)
class Done:
    """Reconciles since the start: how many, by kind and result, and how long those of a kind took."""

    results: Counter[tuple[str, str]] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))


class Reconciler:
    """`run_forever` works; keys come in through `engines` and `registries`."""

    def __init__(
        self,
        settings: Settings,
        cluster: Cluster,
        leadership: Leadership,
        pods: Asking,
        transitions: Transitions,
        learn: Learn,
    ) -> None:
        self.engines: WorkQueue[Key] = WorkQueue()
        self.registries: WorkQueue[str] = WorkQueue(REGISTRY_BACK_OFF_S)
        self.queues: Mapping[str, Sized] = {ENGINE: self.engines, REGISTRY: self.registries}
        self.done = Done()
        self.world = World(self.engines.add, self.registries.add)
        self._settings = settings
        self._cluster = cluster
        self._leadership = leadership
        self._asking = pods
        self._transitions = transitions
        self._learn = learn
        # By namespace, the uids for which the registry has no space.
        self._left_out: dict[str, frozenset[str]] = {}

    async def run_forever(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(REGISTRY_WORKERS):
                group.create_task(self._work(REGISTRY, self.registries, self.reconcile_registry))
            for _ in range(WORKERS):
                group.create_task(self._work(ENGINE, self.engines, self.reconcile_engine))
            group.create_task(self._resync_forever())

    async def reconcile_engine(self, key: Key) -> None:
        obj = self.world.object(key)
        if obj is None:
            # The garbage collector does the rest.
            return
        observed = await self._make(self._observe(key, obj))
        found = findings.first(observed, self._settings)
        status = statuses.of(observed, found, _now())
        if statuses.differs(observed, status):
            try:
                told = await self._cluster.apply(
                    resources.MODELENGINES, statuses.manifest(observed, status), subresource="status"
                )
            except errors.NotFound:
                self.world.modelengines.forget(obj)
                return
            self.world.modelengines.learn(told)
            event = self._transitions.event(obj, found, _now())
            if event is not None:
                log.info("%s/%s: %s: %s", *key, found.column, found.message)
                await self._cluster.tell(event)
        if any(pod.is_starting for pod in observed.pods):
            self.engines.add_after(key, asking.EVERY_S)
        if found.reason in LOOK_AGAIN:
            self.engines.add_after(key, LOOK_AGAIN[found.reason])
        if observed.refusal:
            self.engines.add_after(key, WRITE_AGAIN_S)

    async def reconcile_registry(self, namespace: str) -> None:
        engines, pods = self.world.engines(namespace), self.world.pods_of_namespace(namespace)
        unreadable = self.world.unreadable(namespace)
        known = self.world.registry(namespace)
        is_home = namespace == self._settings.namespace and self._watches(namespace)
        if known is None and not engines and not unreadable and not is_home:
            return
        wanted = names.registry(engines, pods, unreadable=unreadable)
        self._leave_out(namespace, engines, wanted.left_out)
        if known is not None and wanted.data == (known.get("data") or {}) and not known.get("binaryData"):
            return
        try:
            written = await self._cluster.write_registry(namespace, known, wanted.data)
        except (errors.Conflict, errors.NotFound):
            # It is not as our watch told; perhaps that has gone silent, and callers must not wait for it.
            known = await self._cluster.find(resources.CONFIG_MAPS, namespace, kinds.REGISTRY_NAME)
            written = await self._cluster.write_registry(namespace, known, wanted.data)
        log.info("registry of %s: %d names", namespace, len(wanted.data))
        self._learn(resources.CONFIG_MAPS, written)

    def _leave_out(self, namespace: str, engines: Sequence[Engine], uids: frozenset[str]) -> None:
        changed = uids ^ self._left_out.get(namespace, frozenset())
        self._left_out[namespace] = uids
        for engine in engines:
            if engine.uid in changed:
                self.engines.add((namespace, engine.name))

    def _watches(self, namespace: str) -> bool:
        return not self._settings.namespaces or namespace in self._settings.namespaces

    def _observe(self, key: Key, obj: Object) -> Observed:
        engine = self.world.engine(key)
        if isinstance(engine, str):
            listed = self.world.listed_anyhow(key[0], obj["metadata"]["uid"])
            return Observed(obj, None, engine, pods=self.world.pods(key), listed=listed)
        pods = self.world.pods(key)
        owner = self.world.name_owner(engine)
        starting = [pod for pod in pods if pod.is_starting and pod.ip][:ASKED]
        ready = next((pod for pod in pods if pod.is_ready and pod.ip), None)

        def wake() -> None:
            self.engines.add(key)

        return Observed(
            obj=obj,
            engine=engine,
            children=self.world.children(key),
            pods=pods,
            listed=self.world.listed(engine),
            name_owner=None if owner.uid == engine.uid else owner.name,
            is_left_out=engine.uid in self._left_out.get(engine.namespace, frozenset()),
            progress=most_telling([self._asking.progress(pod, wake) for pod in starting]),
            facts=self._asking.facts(ready, wake) if ready is not None else None,
        )

    async def _make(self, observed: Observed) -> Observed:
        """Writes what differs. Gives what is known afterwards: the children as they are now, and what was refused."""
        children: dict[Resource, Object] = {resource: dict(child) for resource, child in observed.children.items()}
        is_sure = False
        for resource, manifest in plan.writes(observed, self._settings):
            metadata = manifest["metadata"]
            if resource not in children:
                if not is_sure:
                    await self._ensure_current(observed.obj)
                    is_sure = True
                # What has not our labels no watch of ours has seen, and it must not be taken over.
                there = await self._cluster.find(resource, metadata["namespace"], metadata["name"])
                if there is not None:
                    children[resource] = there
                    observed = dataclasses.replace(observed, children=children)
                    if not plan.writes(observed, self._settings):
                        return observed
            try:
                children[resource] = await self._cluster.apply(resource, manifest)
            except errors.Terminating:
                raise
            except (errors.Invalid, errors.Forbidden) as refused:
                return dataclasses.replace(observed, children=children, refusal=refused.message)
            self._learn(resource, children[resource])
        return dataclasses.replace(observed, children=children)

    async def _ensure_current(self, obj: Mapping[str, Any]) -> None:
        """Nothing is made from an old picture: else pods would start for a ModelEngine that is gone already.

        Raises Conflict when the picture was old; the next look has a new one.
        """
        metadata = obj["metadata"]
        current = await self._cluster.find(resources.MODELENGINES, metadata["namespace"], metadata["name"])
        if current is None or current["metadata"]["uid"] != metadata["uid"]:
            self.world.modelengines.forget(dict(obj))
        if current is not None:
            self.world.modelengines.learn(current)
        if current is None or any(
            current["metadata"].get(name) != metadata.get(name) for name in ("uid", "generation", "deletionTimestamp")
        ):
            raise errors.Conflict("the ModelEngine is another one by now")

    async def _work(self, kind: str, queue: WorkQueue[AnyKey], reconcile: Callable[[AnyKey], Awaitable[None]]) -> None:
        while True:
            await self._leadership.wait()
            key = await queue.get()
            began, result = time.monotonic(), "internal_error"
            try:
                await reconcile(key)
            except NotLeading:
                result = "not_leading"
                queue.add(key)
            except (errors.Conflict, errors.Terminating) as passing:
                # Somebody wrote meanwhile, or deletes the namespace; the next look sees it.
                result = "conflict"
                log.debug("%s: %s", key, passing.message)
                queue.add_failed(key)
            except errors.KubeError as failure:
                result = "api_error"
                delay_s = queue.add_failed(key, failure.retry_after_s or 0.0)
                log.warning("%s: %s; again in %.1f s", key, failure.message, delay_s)
            except Exception:
                # A mistake of ours with one object must not stop the work on the others.
                delay_s = queue.add_failed(key)
                log.exception("%s: again in %.1f s", key, delay_s)
            else:
                result = "ok"
                queue.forget_failures(key)
            finally:
                queue.done(key)
                self.done.results[kind, result] += 1
                self.done.seconds[kind] += time.monotonic() - began

    async def _resync_forever(self) -> None:
        while True:
            self._asking.keep(self.world.pod_uids())
            self.registries.add(self._settings.namespace)
            for namespace in self.world.namespaces():
                self.registries.add(namespace)
            for i, key in enumerate(list(self.world.modelengines.objects)):
                # Spread out, so that a thousand do not come at the same moment.
                self.engines.add_after(key, RESYNC_S / 2 * i / len(self.world.modelengines.objects))
            await asyncio.sleep(RESYNC_S)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
