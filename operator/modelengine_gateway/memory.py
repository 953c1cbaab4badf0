"""How a front door's process keeps memory. `__main__` says so once, when all is there that stays and nothing is served.

Apart because it is about the process: no request knows of it. A request leaves nothing for the collector (pinned by
tests/wire/test_memory.py), and a body that was large goes back to the machine.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc

# The young, to whom a stream that begins adds 160, are looked at in half a millisecond; all of them, seldom.
COLLECT_EVERY = (2_000, 500, 100)
# Well over what is read from a connection at once, well under the largest body.
MAPPED_FROM_BYTES = 1024 * 1024
# The GNU C library's number for it.
M_MMAP_THRESHOLD = -3


def settle() -> None:
    # Everything up to here stays: no collection need go through it, while streams stand still.
    gc.collect()
    gc.freeze()
    # A request leaves it nothing, and while it looks a thousand streams stand still.
    gc.set_threshold(*COLLECT_EVERY)
    _map_what_is_large()


def _map_what_is_large() -> None:
    """A block of that size is the machine's again as soon as it is free.

    By itself the GNU C library stops doing so at the first body of 8 MB: it takes the largest block that was ever freed
    for a usual one, and cuts such from its heap, of which nothing goes back below the last small thing in it.
    """
    # Other C libraries have no such choice.
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, MAPPED_FROM_BYTES)
