"""What `helm test` runs in its pod, against a real front door and a fake engine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from charts import render

from fakes import FakeEngine
from modelengine import NameServerClient
from modelengine.protocol import ServerInfo
from modelengine_gateway import app
from modelengine_gateway.settings import Settings
from servers import running


@pytest.fixture
def front_door() -> Iterator[str]:
    door = app.create(Settings(lease_s=10))
    with running(door.app, on_stop=door.directory.close) as port:
        yield f"127.0.0.1:{port}"


def chat(front_door: str, model: str = "") -> subprocess.CompletedProcess[str]:
    script = (render.CHART / "files" / "chat.py").read_text()
    env = {**os.environ, "MODELENGINE_HOST": front_door}
    return subprocess.run([sys.executable, "-c", script, model], env=env, capture_output=True, text=True, timeout=60)


def test_without_a_model_it_asks_the_name_server_alone(front_door: str) -> None:
    done = chat(front_door)
    assert done.returncode == 0, done.stderr
    assert "get_services" in done.stdout
    assert "no model is served" in done.stdout


@pytest.mark.parametrize("asked", ["", "second"])
def test_it_chats_with_the_model_that_it_is_told_or_else_the_first(front_door: str, asked: str) -> None:
    first, second = FakeEngine(name="first"), FakeEngine(name="second")
    with running(first.app(), grace_s=0) as one, running(second.app(), grace_s=0) as two:
        with NameServerClient(front_door) as names:
            names.register(ServerInfo("first", "127.0.0.1", one))
            names.register(ServerInfo("second", "127.0.0.1", two))
        done = chat(front_door, asked)
    assert done.returncode == 0, done.stderr
    assert "served: first, second" in done.stdout
    assert f"\n{asked or 'first'}: " in done.stdout
    assert done.stdout.splitlines()[-1] != f"{asked or 'first'}: "


def test_it_fails_where_nobody_answers() -> None:
    done = chat("127.0.0.1:1")
    assert done.returncode != 0
