"""A live front door and an engine with the demo model, as processes, for clients that were not written by us."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import processes
from modelengine import ChatClient


@pytest.fixture(scope="session")
def front_door_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`127.0.0.1:PORT` of a front door that serves `demo`."""
    folder, port = tmp_path_factory.mktemp("servers"), processes.free_port()
    with processes.front_door(folder, port), processes.engine(folder, port) as engine:
        with ChatClient(f"127.0.0.1:{port}") as client:
            assert client.wait_service_available("demo", 120), engine.output
        yield f"127.0.0.1:{port}"
