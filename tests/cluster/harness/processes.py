"""The processes of a cluster: started by argv with a log file each, waited for, ended by pid.

Each dies with the process that started it (the kernel sees to that) and leaves its pid in the cluster's folder, so that
`leftovers.py` can end those of a run that was killed.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1


class Failed(Exception):
    """A part of the cluster ended or did not come up; the message has the end of its log."""


def started_at(pid: int) -> int:
    """When the process began, in ticks since boot; 0: it is gone. Tells a pid that came again from the one meant."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    fields = stat.rpartition(")")[2].split()
    return 0 if fields[0] == "Z" else int(fields[19])


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def until(check: Callable[[], object], timeout_s: float, what: str, pause_s: float = 0.05) -> None:
    deadline = time.monotonic() + timeout_s
    while not check():
        if time.monotonic() > deadline:
            raise Failed(f"{what} did not come within {timeout_s:g} s")
        time.sleep(pause_s)


def answers(url: str) -> bool:
    """200 for a GET; for readiness checks."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


class Process:
    """One program; it can be ended and started again with the same flags."""

    def __init__(self, folder: Path, argv: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        self.name = Path(argv[0]).name
        self.log = folder / "logs" / f"{self.name}.log"
        self._pid_file = folder / "pids" / self.name
        self._argv = list(argv)
        self._env = {**os.environ, **(env or {})}
        self._process: subprocess.Popen[bytes] | None = None
        for path in (self.log, self._pid_file):
            path.parent.mkdir(exist_ok=True)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._argv,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C in the terminal is for who started the cluster; the parts are ended in order.
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        self._pid_file.write_text(f"{self.pid} {started_at(self.pid)}")

    def wait_ready(self, check: Callable[[], bool], timeout_s: float = 60) -> None:
        def ready() -> bool:
            if not self.running:
                raise Failed(f"{self.name} ended at its start:\n{self.last_words()}")
            return check()

        try:
            until(ready, timeout_s, self.name)
        except Failed as exc:
            raise Failed(f"{exc}; its log ends:\n{self.last_words()}") from None

    def last_words(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL, 10)

    def stop(self, grace_s: float = 10) -> None:
        """SIGTERM, and SIGKILL for who does not listen."""
        self._end(signal.SIGTERM, grace_s)

    def _end(self, number: signal.Signals, grace_s: float) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
            try:
                self._process.wait(grace_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._pid_file.unlink(missing_ok=True)
