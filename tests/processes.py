"""Real processes of ours, as `modelengine up` starts them, for tests that kill them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from modelengine import NameServerClient, errors


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class Server:
    """One process; `output` is what it wrote to stderr."""

    def __init__(self, module: str, log: Path, **settings: object) -> None:
        self._log = log
        variables = {f"MODELENGINE_{name.upper()}": str(value) for name, value in settings.items()}
        with log.open("ab") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module],
                env={**os.environ, "MODELENGINE_EXIT_WITH_STDIN": "1", **variables},
                stdin=subprocess.PIPE,
                stderr=stderr,
            )

    @property
    def output(self) -> str:
        return self._log.read_text()

    def kill(self) -> None:
        """kill -9: no good-bye."""
        self.process.kill()
        self.process.wait()

    def stop(self, timeout_s: float = 30) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)

    def close(self) -> None:
        if self.process.poll() is None:
            self.kill()
        assert self.process.stdin is not None
        self.process.stdin.close()


@contextmanager
def front_door(folder: Path, port: int, **settings: object) -> Iterator[Server]:
    """A front door that answers."""
    server = Server("modelengine_gateway", folder / "front-door.log", listen_port=port, **settings)
    try:
        deadline = time.monotonic() + 20
        with NameServerClient(f"127.0.0.1:{port}") as names:
            while True:
                try:
                    names.info()
                    break
                except errors.ConnectionFailed:
                    assert server.process.poll() is None, server.output
                    assert time.monotonic() < deadline, server.output
                    time.sleep(0.05)
        yield server
    finally:
        server.close()


@contextmanager
def engine(folder: Path, nameserver_port: int, number: int = 0, **settings: object) -> Iterator[Server]:
    """An engine with the demo model, loading; wait for its name at the name server."""
    server = Server(
        "modelengine_runtime",
        folder / f"engine-{number}.log",
        **{"host": f"127.0.0.1:{nameserver_port}", "device": "cpu", "grace_s": 5, **settings},
    )
    try:
        yield server
    finally:
        server.close()
