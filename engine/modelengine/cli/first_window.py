"""`modelengine up` as a child process, for `demo --up`: what its window would show is shown here."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from modelengine import errors
from modelengine.env import EXIT_WITH_STDIN

HOST = "127.0.0.1"
RUNNING = re.compile(r"(?:(?P<name>\S+) is )?running! port: (?P<port>\d+)")


@dataclass(frozen=True, slots=True)
class FirstWindow:
    """Where the name server is, and the name that the engine serves."""

    address: str
    name: str


@contextmanager
def opened(model: str, port: int) -> Iterator[FirstWindow]:
    """Up until the engine runs; on leaving stopped as by Ctrl-C, with its last lines. Raises when it fails to start."""
    process = subprocess.Popen(
        [sys.executable, "-m", "modelengine", "up", model, "--host", HOST, "--port", str(port)],
        env={**os.environ, EXIT_WITH_STDIN: "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # Ctrl-C reaches only us; the child is stopped when we are through with it.
        start_new_session=True,
    )
    with process:
        assert process.stdout is not None
        try:
            name_server, engine = _until_running(process.stdout), _until_running(process.stdout)
            yield FirstWindow(f"{HOST}:{name_server['port']}", engine["name"])
        finally:
            process.send_signal(signal.SIGINT)
            for line in process.stdout:
                print(line, end="", flush=True)


def _until_running(lines: IO[str]) -> re.Match[str]:
    """Shows the lines up to one that says what runs."""
    for line in lines:
        print(line, end="", flush=True)
        if found := RUNNING.search(line):
            return found
    # It has said why on stderr.
    raise errors.Unavailable("the system did not start")
