"""The lists of names and replicas, and how the verbs are called, against fake engines."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable

import pytest

from callers import engine_process
from fakes import FakeEngine
from modelengine import NameServerClient
from windows import modelengine

Serve = Callable[..., str]


def test_replicas_of_a_name_are_counted(serve: Serve) -> None:
    host = serve(FakeEngine(), FakeEngine(), FakeEngine(name="Qwen/Qwen3-8B"))
    rows = [line.split() for line in modelengine("ls", "-o", "wide", host=host).stdout.splitlines()]
    assert rows[0] == ["NAME", "PROTOCOL", "REPLICAS", "ADDRESSES"]
    assert rows[1][:3] == ["Qwen/Qwen3-8B", "chat", "1"]
    assert rows[2][:3] == ["demo", "chat", "2"]
    assert len(rows[2][3:]) == 2


def test_a_replica_that_does_not_answer_is_listed_without_facts(serve: Serve) -> None:
    host = serve()
    with engine_process("demo") as (process, at), NameServerClient(host) as names:
        names.register(at)
        # Frozen: it holds its connections, and says nothing.
        process.send_signal(signal.SIGSTOP)
        done = modelengine("ps", host=host)
    assert done.returncode == 0
    assert done.stdout.splitlines()[1].split() == ["demo", at.host, str(at.port), *"------"]


def test_nothing_served_is_an_empty_list_and_no_error(serve: Serve) -> None:
    host = serve()
    assert modelengine("ls", host=host).stdout.split() == ["NAME", "PROTOCOL", "REPLICAS"]
    assert json.loads(modelengine("ps", "-o", "json", host=host).stdout) == []


def test_the_host_may_stand_before_or_behind_the_verb_and_wins_over_the_environment(serve: Serve) -> None:
    host = serve(FakeEngine())
    for arguments in (["--host", host, "ls"], ["ls", "--host", host]):
        done = modelengine(*arguments, "-o", "name", host="127.0.0.1:1")
        assert (done.returncode, done.stdout) == (0, "demo\n")


def test_the_command_alone_shows_its_verbs() -> None:
    done = modelengine()
    assert done.returncode == 0
    listed = done.stdout.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in listed] == [
        "up",
        "run",
        "ls",
        "ps",
        "wait",
        "logs",
        "demo",
        "doctor",
        "pull",
        "version",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lss"], "error: No such command 'lss'. Did you mean 'ls'? (see 'modelengine --help')"),
        (["ls", "-o", "xml"], "error: Invalid value for '-o' / '--output'"),
        (["ls", "--host", "127.0.0.1:x"], "error: host: expected HOST, HOST:PORT or http://HOST:PORT"),
        (["up", "--port", "70000"], "error: Invalid value for '--port'"),
        (["demo", "--port", "1"], "error: Invalid value: --port goes with --up"),
        (["demo", "--up", "--host", "x"], "error: Invalid value: --host is of a running system; --up starts its own"),
        (["wait"], "error: Missing argument 'NAME'."),
    ],
)
def test_wrong_usage_is_one_line_and_2(arguments: list[str], message: str) -> None:
    done = modelengine(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(message)
