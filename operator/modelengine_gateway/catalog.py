"""What the registries of all namespaces say together, as data: whose name is it, and which replicas has it.

Pure. A plain name belongs to the front door's own namespace if that has it, else to the alphabetically first that has
it. Replicas of two namespaces are never mixed: they are two models. A key whose value can't be believed keeps what it
last said; a key that is gone takes its name with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from modelengine import registry_configmap
from modelengine.registry_configmap import Entry, Service

Name = tuple[str, str]


@dataclass(slots=True)
class Told:
    """What came of one look at a namespace's registry."""

    # (protocol, name) of each entry that is new, gone or different.
    changed: set[Name] = field(default_factory=set)
    complaints: list[str] = field(default_factory=list)


class Catalog:
    """Takes one namespace's registry after the other. `entry` says who has a name."""

    def __init__(self, own_namespace: str) -> None:
        self._own = own_namespace
        # Namespace -> key -> the last entry that could be believed.
        self._told: dict[str, dict[str, Entry]] = {}
        # (protocol, name) -> namespace -> entry.
        self._offers: dict[Name, dict[str, Entry]] = {}

    def take(self, namespace: str, data: Mapping[str, Any]) -> Told:
        """The registry of the namespace now holds this."""
        entries, complaints = registry_configmap.decode(data)
        old = self._told.get(namespace, {})
        new = {registry_configmap.encode_key(entry.protocol, entry.name): entry for entry in entries}
        for key in old.keys() & data.keys() - new.keys():
            new[key] = old[key]
        return Told(self._replace(namespace, old, new), complaints)

    def drop(self, namespace: str) -> Told:
        """The namespace has no registry any more."""
        return Told(self._replace(namespace, self._told.get(namespace, {}), {}))

    def _replace(self, namespace: str, old: Mapping[str, Entry], new: dict[str, Entry]) -> set[Name]:
        changed = {key: new.get(key) for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
        names = set()
        for key, entry in changed.items():
            name = _name(entry or old[key])
            names.add(name)
            offers = self._offers.setdefault(name, {})
            if entry is not None:
                offers[namespace] = entry
            else:
                del offers[namespace]
            if not offers:
                del self._offers[name]
        self._told[namespace] = new
        if not new:
            del self._told[namespace]
        return names

    def entry(self, name: Name) -> Entry | None:
        """The entry that the name stands for, its replicas in the order of their pods."""
        offers = self._offers.get(name)
        return None if offers is None else offers[self._owner(offers)]

    def names(self) -> list[Name]:
        """Every name that is somebody's, with replicas or without."""
        return [*self._offers]

    def shadowed(self, name: Name) -> tuple[str, list[str]]:
        """The namespace that has the name, and those whose model of that name nobody can reach by it."""
        offers = self._offers.get(name, {})
        owner = self._owner(offers) if offers else ""
        return owner, sorted(offers.keys() - {owner})

    def holds(self, service: Service) -> bool:
        """Whether this very replica, by its pod, is still what its name stands for."""
        entry = self.entry((service.info.protocol, service.info.name))
        return entry is not None and service in entry.services

    def _owner(self, offers: Mapping[str, Entry]) -> str:
        return self._own if self._own in offers else min(offers)


def _name(entry: Entry) -> Name:
    return entry.protocol, entry.name
