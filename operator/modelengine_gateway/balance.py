"""Which replica gets the next request. Pure.

A conversation goes back to where its beginning is cached, as long as that replica has not much more to do than the
mean; anything else goes to the least busy, by chance among equals, so that front doors do not march in step.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

from modelengine.protocol import ServerInfo
from modelengine_gateway import affinity

# How far above the mean a replica may be for a conversation that belongs to it; where loads are small, in requests.
MOST_OF_MEAN = 1.1
AT_LEAST_ABOVE = 2

Choose = Callable[[Sequence[ServerInfo]], ServerInfo]


def pick(
    loads: Mapping[ServerInfo, int], key: bytes | None = None, choose: Choose = random.choice
) -> ServerInfo | None:
    """One of the replicas, given the requests that each has; None when there are none. `key` is a conversation's."""
    if not loads:
        return None
    if key is not None and len(loads) > 1:
        home = affinity.home(key, list(loads))
        mean = sum(loads.values()) / len(loads)
        if loads[home] <= max(mean * MOST_OF_MEAN, mean + AT_LEAST_ABOVE):
            return home
    fewest = min(loads.values())
    return choose([info for info, load in loads.items() if load == fewest])
