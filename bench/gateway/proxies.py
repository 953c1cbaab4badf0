"""What is measured: each proxy as a process of its own before the same upstream, and how to ask it.

A process lives for one measurement, so that the most memory it ever had is that of this one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import processes
from bench.processes import LOOPBACK, PYTHON, BenchFailed, Child
from modelengine import errors
from modelengine.client import NameServerClient
from modelengine.protocol import ServerInfo
from modelengine_gateway.settings import MAX_LEASE_S

NATIVE, OPENAI = "/engine/inference", "/v1/chat/completions"
SOURCES = Path(__file__).parent / "go"
BUILD_S = 300.0
NAME = "demo"


@dataclass(frozen=True, slots=True)
class Way:
    """Where the load goes, and whose CPU and memory count; None: nobody stands between."""

    port: int
    path: str
    pid: int | None

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}{self.path}"


@contextmanager
def built() -> Iterator[Path]:
    """The Go program. Raises BenchFailed where there is no Go, or it does not compile."""
    compiler = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if compiler is None:
        raise BenchFailed("the benchmark's load and one of the proxies are written in Go, and there is no `go` here")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        binary = Path(folder) / "gateway"
        done = subprocess.run(
            [compiler, "build", "-o", str(binary), "."],
            cwd=SOURCES,
            env={**os.environ, "GOFLAGS": "", "GOTOOLCHAIN": "local"},
            capture_output=True,
            text=True,
            timeout=BUILD_S,
        )
        if done.returncode:
            raise BenchFailed(f"go build failed:\n{processes.last_lines(done.stderr)}")
        yield binary


@contextmanager
def upstream(binary: Path, pause_s: float) -> Iterator[int]:
    with _on_its_port([str(binary), "upstream", f"-pause={pause_s}s"]) as (_, port):
        yield port


@contextmanager
def _on_its_port(argv: Sequence[str]) -> Iterator[tuple[Child, int]]:
    """A process whose first line is its port."""
    with processes.running(argv) as child:
        port = child.hear()
        yield child, int(str(port))


@contextmanager
def direct(binary: Path, engine: int) -> Iterator[Way]:
    yield Way(engine, NATIVE, None)


@contextmanager
def ours(binary: Path, engine: int) -> Iterator[Way]:
    with _front_door(engine) as (pid, port):
        yield Way(port, NATIVE, pid)


@contextmanager
def ours_openai(binary: Path, engine: int) -> Iterator[Way]:
    with _front_door(engine) as (pid, port):
        yield Way(port, OPENAI, pid)


@contextmanager
def _front_door(engine: int) -> Iterator[tuple[int, int]]:
    with processes.front_door(lease_s=MAX_LEASE_S) as (child, port), _listed(port, engine):
        yield child.pid, port


@contextmanager
def _listed(door: int, engine: int) -> Iterator[None]:
    """Keeps the engine registered, from a process of its own: this one waits for the load meanwhile."""
    service = ServerInfo(NAME, LOOPBACK, engine)
    with NameServerClient(f"{LOOPBACK}:{door}") as names:
        try:
            names.register(service)
        except errors.ModelEngineError as failure:
            raise BenchFailed(f"the upstream is not listed: {failure}") from failure
    with processes.running((*PYTHON, "bench.gateway.renewals", f"{LOOPBACK}:{door}", str(engine))):
        yield


@contextmanager
def go(binary: Path, engine: int) -> Iterator[Way]:
    with _on_its_port([str(binary), "proxy", f"-to=http://{LOOPBACK}:{engine}"]) as (child, port):
        yield Way(port, NATIVE, child.pid)


@contextmanager
def fastapi(binary: Path, engine: int) -> Iterator[Way]:
    argv = (*PYTHON, "bench.gateway.fastapi_proxy", f"http://{LOOPBACK}:{engine}")
    with _on_its_port(argv) as (child, port):
        yield Way(port, NATIVE, child.pid)


DIRECT, OURS, OURS_OPENAI, GO = "direct", "ours", "ours /v1", "go ReverseProxy"
PROXIES: Mapping[str, Callable[[Path, int], AbstractContextManager[Way]]] = {
    DIRECT: direct,
    OURS: ours,
    OURS_OPENAI: ours_openai,
    GO: go,
    "fastapi+httpx2": fastapi,
}
