"""What the operator knows of the cluster: copies of ModelEngines, of what belongs to them, and of the registries.

Fed by kopf (ModelEngines) and by watches of our own, by label, so that other people's objects are never asked for. A
change of anything puts the keys of those that it concerns into a queue. Here is what is where; what follows from it is
decided elsewhere.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

from modelengine import errors, kinds
from modelengine.registry_configmap import Entry, Service, decode
from modelengine_kube import resources
from modelengine_kube.api import Object
from modelengine_kube.copies import Copy, Key, OnChange
from modelengine_kube.resources import Resource
from modelengine_operator import manifests, names, podstate, spec
from modelengine_operator.podstate import PodState
from modelengine_operator.spec import Engine

log = logging.getLogger(__name__)

# Besides pods: what a ModelEngine has one of.
CHILDREN = (
    resources.CLAIMS,
    resources.SERVICE_ACCOUNTS,
    resources.SERVICES,
    resources.BUDGETS,
    resources.DEPLOYMENTS,
)
NamespacedName = tuple[str, names.NameKey]
# A ModelEngine's uid, and the name under which the registry lists it.
Listed = tuple[str, names.NameKey]


class World:
    """`wake_engine` gets the (namespace, name) of a ModelEngine, `wake_registry` a namespace."""

    def __init__(self, wake_engine: Callable[[Key], None], wake_registry: Callable[[str], None]) -> None:
        self._wake_engine = wake_engine
        self._wake_registry = wake_registry
        self.modelengines = Copy(_guarded(self._modelengine_changed))
        self._children: dict[tuple[Resource, Key], Object] = {}
        self._pods: dict[Key, dict[str, PodState]] = {}
        self._registries: dict[str, Object] = {}
        self._entries: dict[str, dict[Listed, Entry]] = {}
        self._engine_of_pod: dict[Key, str] = {}
        # Parsed once for each change; a reason in the place of those that can't be read.
        self._engines: dict[Key, Engine | str] = {}
        self._claims: dict[NamespacedName, set[Key]] = {}

    def on_change(self, resource: Resource) -> OnChange:
        """Takes the changes of one kind, from the reflector that follows it."""
        if resource is resources.PODS:
            return _guarded(self._pod_changed)
        if resource is resources.CONFIG_MAPS:
            return _guarded(self._registry_changed)

        def child_changed(key: Key, obj: Object | None) -> None:
            previous = self._children.pop((resource, key), None)
            if obj is not None:
                self._children[resource, key] = obj
            self._wake(obj or previous)

        return _guarded(child_changed)

    def object(self, key: Key) -> Object | None:
        return self.modelengines.objects.get(key)

    def engine(self, key: Key) -> Engine | str:
        """What the ModelEngine says, or why it can't be read."""
        return self._engines[key]

    def engines(self, namespace: str) -> list[Engine]:
        """Those of the namespace that can be read and stay."""
        return [
            engine
            for (ns, _), engine in self._engines.items()
            if ns == namespace and isinstance(engine, Engine) and not engine.is_deleting
        ]

    def unreadable(self, namespace: str) -> list[names.Owner]:
        """Those of the namespace that can't be read and stay."""
        found = [self.modelengines.objects[key] for key, e in self._engines.items() if isinstance(e, str)]
        return [
            names.Owner(meta["name"], meta["uid"], datetime.fromisoformat(meta["creationTimestamp"]))
            for meta in (obj["metadata"] for obj in found)
            if meta["namespace"] == namespace and "deletionTimestamp" not in meta
        ]

    def name_owner(self, engine: Engine) -> Engine:
        """Who has the served name that this one wants."""
        claimants = self._claims.get((engine.namespace, names.name_key(engine)), set())
        return names.owner([engine, *self._readable(claimants)])

    def children(self, key: Key) -> Mapping[Resource, Object]:
        namespace, name = key
        found = {r: self._children.get((r, (namespace, manifests.name_of(name, r)))) for r in CHILDREN}
        return {resource: child for resource, child in found.items() if child is not None}

    def pods(self, key: Key) -> list[PodState]:
        return list(self._pods.get(key, {}).values())

    def pod_uids(self) -> set[str]:
        return {pod.uid for pods in self._pods.values() for pod in pods.values()}

    def pods_of_namespace(self, namespace: str) -> list[PodState]:
        return [pod for (ns, _), pods in self._pods.items() if ns == namespace for pod in pods.values()]

    def registry(self, namespace: str) -> Object | None:
        return self._registries.get(namespace)

    def listed(self, engine: Engine) -> list[Service]:
        """The replicas of this one that the registry holds under its name."""
        entry = self._entries.get(engine.namespace, {}).get((engine.uid, names.name_key(engine)))
        return list(entry.services) if entry is not None else []

    def listed_anyhow(self, namespace: str, uid: str) -> list[Service]:
        """The replicas of this one that the registry holds, under whatever name."""
        entries = self._entries.get(namespace, {}).items()
        return [service for (owner, _), entry in entries if owner == uid for service in entry.services]

    def namespaces(self) -> set[str]:
        return {namespace for namespace, _ in (*self._engines, *self._pods)} | set(self._registries)

    def _readable(self, keys: set[Key]) -> Iterator[Engine]:
        for key in keys:
            engine = self._engines.get(key)
            if isinstance(engine, Engine):
                yield engine

    def _modelengine_changed(self, key: Key, obj: Object | None) -> None:
        before = self._engines.get(key)
        affected = {key} | self._unclaim(key)
        if obj is not None:
            try:
                engine = spec.parse(obj)
            except errors.InvalidRequest as broken:
                self._engines[key] = broken.message
            except Exception:
                log.exception("%s/%s", *key)
                self._engines[key] = "the operator fails to read it; its log says how"
            else:
                self._engines[key] = engine
                if not engine.is_deleting:
                    claimants = self._claims.setdefault((key[0], names.name_key(engine)), set())
                    affected |= claimants
                    claimants.add(key)
        for other in affected:
            self._wake_engine(other)
        # Most changes are our own, of the status, and a registry of a thousand names is long.
        if not isinstance(before, Engine) or self._engines.get(key) != before:
            self._wake_registry(key[0])

    def _unclaim(self, key: Key) -> set[Key]:
        """Takes back what the object claimed before; gives those that want the same name."""
        previous = self._engines.pop(key, None)
        if not isinstance(previous, Engine):
            return set()
        name = (key[0], names.name_key(previous))
        claimants = self._claims.get(name, set())
        claimants.discard(key)
        if not claimants:
            self._claims.pop(name, None)
        return set(claimants)

    def _pod_changed(self, key: Key, obj: Object | None) -> None:
        namespace, name = key
        # Its label may have been changed by hand: then it leaves one ModelEngine and comes to another.
        before = self._forget_pod(key)
        affected = {before.engine} if before is not None else set()
        pod = None
        if obj is not None:
            pod = podstate.parse(obj)
            self._engine_of_pod[key] = pod.engine
            self._pods.setdefault((namespace, pod.engine), {})[name] = pod
            affected.add(pod.engine)
        # First: that a pod leaves the list is what cannot wait.
        if names.listing(before) != names.listing(pod):
            self._wake_registry(namespace)
        for engine in affected:
            self._wake_engine((namespace, engine))

    def _forget_pod(self, key: Key) -> PodState | None:
        """Gives it as it was known."""
        namespace, name = key
        engine = self._engine_of_pod.pop(key, None)
        if engine is None:
            return None
        pods = self._pods[namespace, engine]
        pod = pods.pop(name)
        if not pods:
            del self._pods[namespace, engine]
        return pod

    def _registry_changed(self, key: Key, obj: Object | None) -> None:
        namespace, _ = key
        before = set(self._entries.pop(namespace, {}).values())
        self._registries.pop(namespace, None)
        if obj is not None:
            self._registries[namespace] = obj
            entries, _ = decode(obj.get("data"))
            self._entries[namespace] = {(e.engine_uid, (e.protocol, e.name)): e for e in entries}
        # By whoever it was changed: it is compared with what it should be.
        self._wake_registry(namespace)
        changed = before ^ set(self._entries.get(namespace, {}).values())
        for engine in {entry.engine for entry in changed}:
            self._wake_engine((namespace, engine))

    def _wake(self, child: Object | None) -> None:
        if child is None:
            return
        metadata = child["metadata"]
        if engine := metadata.get("labels", {}).get(kinds.LABEL_ENGINE):
            self._wake_engine((metadata["namespace"], engine))


def _guarded(change: OnChange) -> OnChange:
    """A mistake of ours with one object must not end the watch of all the others."""

    def run(key: Key, obj: Object | None) -> None:
        try:
            change(key, obj)
        except Exception:
            log.exception("%s/%s", *key)

    return run
