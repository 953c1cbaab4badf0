"""A copy of some objects, told what is there by lists, watch events and answers to writes, in whatever order they come.

Versions are compared as numbers: what is older than what is known already is not taken. So an answer to a write counts
at once, and the watch that tells the state before it does not take it back. And what is gone does not come back with an
older state that is told late.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from modelengine_kube.api import Listing, Object

Key = tuple[str, str]


class OnChange(Protocol):
    def __call__(self, key: Key, obj: Object | None) -> None:
        """The object is now so; None: it is gone."""


class Copy:
    """Objects of one kind by (namespace, name). `on_change` is called for each change, and for nothing else."""

    def __init__(self, on_change: OnChange) -> None:
        self._on_change = on_change
        self._objects: dict[Key, Object] = {}
        # At which version what was deleted since the last list was deleted.
        self._gone: dict[Key, int] = {}
        self._listed_at = 0

    @property
    def objects(self) -> Mapping[Key, Object]:
        return self._objects

    def learn(self, obj: Object) -> bool:
        """The object was so at its version. True when that was news."""
        key = key_of(obj)
        if version_of(obj) <= max(version_of(self._objects.get(key)), self._gone.get(key, -1)):
            return False
        self._set(obj)
        return True

    def forget(self, obj: Object) -> bool:
        """The object was deleted at its version. True when that was news."""
        key = key_of(obj)
        known = self._objects.get(key)
        if known is not None and version_of(known) > version_of(obj):
            return False
        self._gone[key] = version_of(obj)
        if known is None:
            return False
        del self._objects[key]
        self._on_change(key, None)
        return True

    def replace(self, listing: Listing) -> int:
        """All that was there when the list was made. Gives the number of changes that nobody had told."""
        listed_at = int(listing.resource_version)
        # A cluster that was put back to an older state counts anew from there: no version that is known compares.
        went_back = listed_at < self._listed_at
        self._listed_at = listed_at
        # What was learnt while the list was under way is newer than the list.
        self._gone = {key: version for key, version in self._gone.items() if version > listed_at and not went_back}
        newer = {key for key, obj in self._objects.items() if version_of(obj) > listed_at and not went_back}
        newer |= self._gone.keys()
        listed = {key_of(obj): obj for obj in listing.items}
        gone = self._objects.keys() - listed.keys() - newer
        for key in gone:
            del self._objects[key]
            self._on_change(key, None)
        # Different, not later: versions that were counted anew may have grown past those that are known.
        changed = [obj for key, obj in listed.items() if key not in newer and self._differs(key, obj)]
        for obj in changed:
            self._set(obj)
        return len(gone) + len(changed)

    def _differs(self, key: Key, obj: Object) -> bool:
        return version_of(obj) != version_of(self._objects.get(key))

    def _set(self, obj: Object) -> None:
        # Who owns which field is the server's business, and half of the object.
        metadata = {name: value for name, value in obj["metadata"].items() if name != "managedFields"}
        key = key_of(obj)
        self._gone.pop(key, None)
        self._objects[key] = {**obj, "metadata": metadata}
        self._on_change(key, self._objects[key])


def key_of(obj: Object) -> Key:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def version_of(obj: Object | None) -> int:
    return -1 if obj is None else int(obj["metadata"]["resourceVersion"])
