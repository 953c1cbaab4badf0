"""Running systems for the tests of this folder: a real one, started once, and fakes that misbehave on demand."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

import windows
from callers import list_at
from fakes import FakeEngine
from modelengine.protocol import ServerInfo
from modelengine_gateway import app
from modelengine_gateway.settings import Settings
from servers import running

# A fake is registered once and stays for the whole test.
LONG_LEASE_S = 3600.0


@dataclass(frozen=True)
class System:
    """A running `modelengine up`."""

    port: int
    window: windows.Window

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def process(self) -> subprocess.Popen[bytes]:
        return self.window.process


@pytest.fixture(scope="session")
def system() -> Iterator[System]:
    """Name server and engine with the demo model, on free ports. Shared: tests leave it as they found it."""
    with windows.opened([*windows.COMMAND, "up", "--port", "0", "--device", "cpu", "--grace-s", "5"]) as window:
        window.until("ModelEngineInferenceEngine: demo is running! port: ")
        found = re.search(r"ModelEngineNameServer: in memory, running! port: (\d+)", window.out)
        assert found is not None
        yield System(int(found[1]), window)


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Lists fake engines at a name server of their own; gives its address."""
    with ExitStack() as stack:

        def start(*fakes: FakeEngine) -> str:
            door = app.create(Settings(lease_s=LONG_LEASE_S))
            host = f"127.0.0.1:{stack.enter_context(running(door.app, on_stop=door.directory.close))}"
            for fake in fakes:
                port = stack.enter_context(running(fake.app(), grace_s=0))
                list_at(ServerInfo(fake.name, "127.0.0.1", port), host)
            return host

        yield start
