"""The directory of names as data: who serves which name, and until when that may be believed.

The name server keeps one Registry. It does no I/O and has no clock: `now` comes in as seconds that never go back.
An entry is identified by all four fields of its ServerInfo, lives for one lease, and registering it again renews it.
"""

from __future__ import annotations

from collections import OrderedDict

from modelengine.protocol import ServerInfo


class Registry:
    """Names to replicas, each with a lease. `revision` grows when the membership changes, never on a renewal."""

    def __init__(self, lease_s: float) -> None:
        self.lease_s = lease_s
        self.revision = 0
        # In the order of expiry: every lease is equally long, so the one renewed last ends last.
        self._expiry: OrderedDict[ServerInfo, float] = OrderedDict()
        # protocol -> name -> replicas; dicts for their insertion order.
        self._listed: dict[str, dict[str, dict[ServerInfo, None]]] = {}

    def register(self, info: ServerInfo, now: float) -> bool:
        """Lists the entry for one lease from `now`, or renews it. True when it was not listed before."""
        is_new = info not in self._expiry
        self._expiry[info] = now + self.lease_s
        self._expiry.move_to_end(info)
        if is_new:
            self._listed.setdefault(info.protocol, {}).setdefault(info.name, {})[info] = None
            self.revision += 1
        return is_new

    def deregister(self, info: ServerInfo) -> bool:
        """Takes the entry off the list; False when it was not on it. A name leaves with its last replica."""
        if self._expiry.pop(info, None) is None:
            return False
        names = self._listed[info.protocol]
        del names[info.name][info]
        if not names[info.name]:
            del names[info.name]
        if not names:
            del self._listed[info.protocol]
        self.revision += 1
        return True

    def expire(self, now: float) -> list[ServerInfo]:
        """Takes off and returns every entry whose lease has ended."""
        ended = []
        while self._expiry:
            info, expiry = next(iter(self._expiry.items()))
            if expiry > now:
                break
            self.deregister(info)
            ended.append(info)
        return ended

    @property
    def next_expiry(self) -> float | None:
        """When the first lease ends, None while nothing is listed."""
        return next(iter(self._expiry.values()), None)

    def services(self, protocol: str, name: str) -> list[ServerInfo]:
        """The replicas of the name, in the order they came; empty for an unknown one."""
        return list(self._listed.get(protocol, {}).get(name, ()))

    def names(self, protocol: str) -> list[str]:
        """The names that are served, in the order they came."""
        return list(self._listed.get(protocol, ()))

    def all(self) -> list[ServerInfo]:
        return [info for names in self._listed.values() for replicas in names.values() for info in replicas]

    def __contains__(self, info: ServerInfo) -> bool:
        return info in self._expiry

    def __len__(self) -> int:
        return len(self._expiry)
