"""Real servers for the tests of this folder: front doors and fake engines on free ports of the loopback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from callers import OpenFrontDoor, StartEngine, list_at
from fakes import FakeEngine
from modelengine.protocol import ServerInfo
from modelengine_gateway import app
from modelengine_gateway.settings import Settings
from servers import running


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def open_front_door(stack: ExitStack) -> OpenFrontDoor:
    """Opens a front door and gives its `host:port`; keyword arguments are its settings."""

    def open_one(**settings: Any) -> str:
        # Nobody waits where a test does not ask for it.
        door = app.create(Settings(**{"queue_s": 0.0, **settings}))
        return f"127.0.0.1:{stack.enter_context(running(door.app, on_stop=door.directory.close))}"

    return open_one


@pytest.fixture
def front_door(open_front_door: OpenFrontDoor) -> str:
    return open_front_door()


@pytest.fixture
def start_engine(stack: ExitStack) -> StartEngine:
    """Starts a fake engine and registers it once, so it is listed for one lease; gives its address."""

    def start(fake: FakeEngine, front_door: str | None = None) -> ServerInfo:
        info = ServerInfo(fake.name, "127.0.0.1", stack.enter_context(running(fake.app(), grace_s=0)))
        if front_door is not None:
            list_at(info, front_door)
        return info

    return start
