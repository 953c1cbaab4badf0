"""The command line beside models that can't be chatted with: they are listed, waited for, and refused with a reason."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from fake_encoder import FakeEncoder
from modelengine.protocol import RERANK
from modelengine_gateway import app
from modelengine_gateway.settings import Settings
from servers import running
from windows import modelengine
from wire_encoders import serving_encoder


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    """A name server that lists `bge`, which makes vectors, and `ranks`."""
    door = app.create(Settings())
    with running(door.app, on_stop=door.directory.close) as port:
        address = f"127.0.0.1:{port}"
        with (
            serving_encoder(FakeEncoder(), "bge", f"http://{address}"),
            serving_encoder(FakeEncoder(RERANK), "ranks", f"http://{address}"),
        ):
            yield address


def test_wait_returns_for_a_name_of_any_protocol(host: str) -> None:
    for name, protocol in (("bge", "embed"), ("ranks", "rerank")):
        done = modelengine("wait", name, "--timeout", "10", host=host)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[1].split()[::3] == [name, protocol]


def test_the_lists_say_what_each_name_speaks(host: str) -> None:
    modelengine("wait", "bge", host=host)
    modelengine("wait", "ranks", host=host)
    listed = json.loads(modelengine("ls", "-o", "json", host=host).stdout)
    assert [(one["name"], one["protocol"]) for one in listed] == [("bge", "embed"), ("ranks", "rerank")]
    [bge, _] = json.loads(modelengine("ps", "-o", "json", host=host).stdout)
    assert (bge["protocol"], bge["context"], bge["running"], bge["waiting"]) == ("embed", 100, 0, 0)
    assert "PROTOCOL" in modelengine("ps", "-o", "wide", host=host).stdout.splitlines()[0].split()


def test_a_chat_with_such_a_model_is_refused_with_the_reason(host: str) -> None:
    modelengine("wait", "bge", host=host)
    done = modelengine("run", "bge", "hello", host=host)
    assert done.returncode != 0
    assert done.stderr.strip() == "error: model: 'bge' speaks embed, not chat"
