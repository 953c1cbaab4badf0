"""Who serves which name in one namespace: the registry's content, decided from ModelEngines and pods.

Pure. Pods are the truth: an entry lists those that are ready and not leaving, under the name that they were started
with. Of several ModelEngines that want one name the oldest has it, so no newcomer can take a name that is in use. It
has it without a ready pod too: then callers hear that the model is away for now, and no other namespace's model of that
name answers in its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from modelengine import kinds
from modelengine.protocol import ServerInfo
from modelengine.registry_configmap import Entry, Service, encode
from modelengine_operator import podstate
from modelengine_operator.podstate import PodState
from modelengine_operator.spec import Engine

# Four fifths of what an object may be; the rest is for its metadata and for the next name.
MAX_BYTES = 1024 * 1024 * 4 // 5

NameKey = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Owner:
    """A ModelEngine whose spec can't be read: it claims no name, but its pods go on serving theirs."""

    name: str
    uid: str
    created: datetime


@dataclass(frozen=True, slots=True)
class Registry:
    """`data` is the ConfigMap's; `left_out` the uids of the ModelEngines for which it has no more space."""

    data: Mapping[str, str]
    left_out: frozenset[str]


def name_key(engine: Engine) -> NameKey:
    return engine.spec.protocol, engine.served_name


def owner(claimants: Iterable[Engine]) -> Engine:
    """Of those that want one name, the one that has it: the oldest."""
    return min(claimants, key=_age)


def registry(
    engines: Sequence[Engine],
    pods: Sequence[PodState],
    max_bytes: int = MAX_BYTES,
    unreadable: Sequence[Owner] = (),
) -> Registry:
    """What the namespace's registry should hold."""
    claimants: dict[NameKey, list[Engine]] = {}
    for wanting in engines:
        claimants.setdefault(name_key(wanting), []).append(wanting)
    owners: dict[NameKey, Engine | Owner] = {key: owner(several) for key, several in claimants.items()}
    by_name: dict[str, Engine | Owner] = {other.name: other for other in unreadable}
    by_name |= {engine.name: engine for engine in engines}
    listed: dict[NameKey, tuple[Engine | Owner, list[PodState]]] = {key: (has, []) for key, has in owners.items()}
    ready = [(by_name[pod.engine], pod) for pod in pods if pod.engine in by_name and is_listed(pod)]
    for engine, pod in sorted(ready, key=lambda pair: _age(pair[0])):
        key = (pod.protocol, pod.served_name)
        # A name that nobody wants any more stays with the pods that still serve it, of the oldest that has some.
        if owners.setdefault(key, engine).uid == engine.uid:
            listed.setdefault(key, (engine, []))[1].append(pod)
    return _fit([(owning, _entry(key, owning, _best(serving))) for key, (owning, serving) in listed.items()], max_bytes)


def is_listed(pod: PodState) -> bool:
    return (pod.is_ready or _is_unheard(pod)) and not pod.is_leaving and bool(pod.ip) and bool(pod.served_name)


def _is_unheard(pod: PodState) -> bool:
    """It answered when its node was last heard."""
    return pod.trouble is not None and pod.trouble.reason == podstate.NODE_SILENT


def _best(pods: Sequence[PodState]) -> Sequence[PodState]:
    """After an outage of the API server nodes count as silent that are well: their pods are better than none. When one
    is lost indeed, its pods are deleted within half a minute."""
    return [pod for pod in pods if pod.is_ready] or pods


def listing(pod: PodState | None) -> tuple[object, ...] | None:
    """All of a pod that a registry depends on; None where it is not to be listed."""
    if pod is None or not is_listed(pod):
        return None
    return pod.engine, pod.protocol, pod.served_name, pod.ip, pod.uid, pod.name, pod.is_ready


def _age(engine: Engine | Owner) -> tuple[datetime, str]:
    return engine.created, engine.uid


def _entry(key: NameKey, engine: Engine | Owner, pods: Sequence[PodState]) -> Entry:
    protocol, name = key
    services = tuple(
        Service(ServerInfo(name, pod.ip, kinds.ENGINE_PORT, protocol), pod.uid, pod.name)
        for pod in sorted(pods, key=lambda pod: pod.uid)
    )
    return Entry(name, protocol, engine.name, engine.uid, services)


def _fit(entries: Sequence[tuple[Engine | Owner, Entry]], max_bytes: int) -> Registry:
    """The oldest first, so that a name that is listed is never pushed out by a newer one."""
    data: dict[str, str] = {}
    size, left_out = 0, set()
    for engine, entry in sorted(entries, key=lambda pair: (_age(pair[0]), pair[1].protocol, pair[1].name)):
        encoded = encode([entry])
        needed = sum(len(key) + len(value.encode()) for key, value in encoded.items())
        if size + needed > max_bytes:
            left_out.add(engine.uid)
            continue
        size += needed
        data |= encoded
    return Registry(data, frozenset(left_out))
