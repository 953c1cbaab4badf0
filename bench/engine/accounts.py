"""What Linux says of a process's memory and of the machine's time. Pure, apart from the watch."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from bench import host

MACHINE = "machine"
WATCH_S = 0.1
# In the order of /proc/stat's first line: user nice system idle iowait irq softirq steal.
IDLE = {3, 4}
KINDS = 8


def busy_s(stat: str) -> float:
    """Seconds that the machine's cores were busy since its start, with us, with others, or with other machines."""
    jiffies = [int(word) for word in stat.split("\n", 1)[0].split()[1 : KINDS + 1]]
    return sum(count for kind, count in enumerate(jiffies) if kind not in IDLE) / os.sysconf("SC_CLK_TCK")


def others_share(used: Mapping[str, float], seconds: float) -> float:
    """The share of the machine's time that nobody in `used` but the machine had."""
    known = sum(amount for who, amount in used.items() if who != MACHINE)
    return max(0.0, used[MACHINE] - known) / (seconds * host.cores())


def memory_mb(status: str, kind: str) -> float:
    """`VmHWM`, `RssAnon` or another line of /proc/PID/status, in MB; not a number where there is none."""
    for line in status.splitlines():
        name, _, value = line.partition(":")
        if name == kind:
            return int(value.split()[0]) * 1024 / 1e6
    return float("nan")


class Memory:
    """The most of each kind that a process had while it was watched. The kernel itself keeps the peak of VmHWM, but
    that counts mapped files, which cost nothing while others need the room; RssAnon it does not keep."""

    def __init__(self, pid: int) -> None:
        self._status = Path(f"/proc/{pid}/status")
        self.anonymous = 0.0
        self.whole = 0.0

    def look(self) -> None:
        status = self._status.read_text()
        self.anonymous = max(self.anonymous, memory_mb(status, "RssAnon"))
        self.whole = memory_mb(status, "VmHWM")


@contextmanager
def watching(pid: int) -> Iterator[Memory]:
    """Looks all the time, from a thread of this process."""
    memory, over = Memory(pid), threading.Event()

    def watch() -> None:
        while not over.wait(WATCH_S):
            # Whoever waits for an answer of the process says that it has ended.
            with suppress(OSError):
                memory.look()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield memory
    finally:
        over.set()
        thread.join()
