"""Processes that benchmarks start and end: ours on free ports, with their settings and nobody else's."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
LOOPBACK = "127.0.0.1"
PYTHON = (sys.executable, "-m")
STOP_S = 20.0
POLL_S = 0.01


class BenchFailed(Exception):
    """A benchmark could not be run to its end; the message holds what the process in question said."""


class Child:
    """A running process. `ask` writes one line of JSON to its stdin and reads one from its stdout."""

    def __init__(self, argv: Sequence[str], process: subprocess.Popen[str], log: Path) -> None:
        self._argv = argv
        self._process = process
        self._log = log

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Raises BenchFailed when the process ends instead of answering."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self.check_alive(is_over=True)
        return self.hear()

    def hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        self.check_alive(is_over=not line)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def check_alive(self, is_over: bool = False) -> None:
        """Raises BenchFailed with the last lines of the process where it has ended."""
        if is_over or self._process.poll() is not None:
            said = last_lines(self._log.read_text(errors="replace"))
            raise BenchFailed(f"{' '.join(self._argv)} ended:\n{said}")


@contextmanager
def running(argv: Sequence[str], *, kubeconfig: Path | None = None, **settings: object) -> Iterator[Child]:
    """The process while the block runs; `settings` are its MODELENGINE_ variables. Ended by SIGTERM, else killed."""
    cluster = {} if kubeconfig is None else {"KUBECONFIG": str(kubeconfig)}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        log = Path(folder) / "log"
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                argv,
                cwd=ROOT,
                # The end of stdin ends our servers too, however this process ends.
                env=environment(EXIT_WITH_STDIN=1, **settings) | cluster,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        try:
            yield Child(argv, process, log)
        finally:
            end(process)


def run_module(module: str, text: str, timeout_s: float) -> str:
    """What a process with `text` as its stdin writes to stdout. Raises BenchFailed when it fails or takes too long."""
    try:
        done = subprocess.run(
            [*PYTHON, module],
            cwd=ROOT,
            env=environment(),
            input=text,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired as late:
        raise BenchFailed(f"{module} took longer than {timeout_s:g} s") from late
    if done.returncode:
        raise BenchFailed(f"{module} failed:\n{last_lines(done.stderr)}")
    return done.stdout


def last_lines(output: str) -> str:
    return "\n".join(output.splitlines()[-8:])


@contextmanager
def front_door(*, kubeconfig: Path | None = None, **settings: object) -> Iterator[tuple[Child, int]]:
    """A front door that answers, and its port."""
    port = free_port()
    argv = (*PYTHON, "modelengine_gateway")
    with running(argv, kubeconfig=kubeconfig, listen_port=port, **settings) as child:
        wait_answer(child, port, "/ready")
        yield child, port


@contextmanager
def engine(**settings: object) -> Iterator[tuple[Child, int]]:
    """An engine process with its model loaded, and its port. Raises BenchFailed where it ends by itself meanwhile."""
    port = free_port()
    with running((*PYTHON, "modelengine_runtime"), kubeconfig=None, listen_port=port, **settings) as child:
        wait_answer(child, port, "/ready")
        yield child, port
        child.check_alive()


def end(process: subprocess.Popen[str]) -> None:
    """Asks, waits, and only then kills."""
    process.terminate()
    try:
        process.communicate(timeout=STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


def environment(**settings: object) -> dict[str, str]:
    """This process's variables without any MODELENGINE_ of the user's, and with these."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MODELENGINE_")}
    return inherited | {f"MODELENGINE_{name.upper()}": str(value) for name, value in settings.items()}


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind((LOOPBACK, 0))
        port: int = sock.getsockname()[1]
        return port


def wait_answer(child: Child, port: int, path: str, timeout_s: float = 300.0) -> None:
    """Returns as soon as `GET path` gives 200. Raises BenchFailed when the process ends, or after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not _answers(port, path):
        child.check_alive()
        if time.monotonic() > deadline:
            raise BenchFailed(f"nobody answers GET {path} on port {port} within {timeout_s:g} s")
        time.sleep(POLL_S)


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def post(port: int, path: str, body: Mapping[str, Any]) -> Any:
    """The `msg` of a server of ours. Raises BenchFailed where it refuses."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=60)
    try:
        connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
        envelope = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    if envelope["state"] != "ok":
        raise BenchFailed(f"POST {path}: {envelope['msg']}")
    return envelope["msg"]


def megabytes(pid: int) -> float:
    """What the process has in memory now."""
    return float(psutil.Process(pid).memory_info().rss) / 1e6


def cpu_s(pid: int) -> float:
    """Seconds of CPU that the process has used, all its threads together."""
    if sys.platform == "linux":
        # The kernel's own clock of another process (clock_getcpuclockid(3)): nanoseconds, where /proc counts in 10 ms.
        return time.clock_gettime((~pid << 3) | 2)
    used = psutil.Process(pid).cpu_times()
    return used.user + used.system
