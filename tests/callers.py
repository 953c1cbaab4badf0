"""How tests speak to servers without a client of ours, and engines in processes that can be killed."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelengine import ChatClient, NameServerClient, Stream, errors, flows
from modelengine.chat_request import chat_request
from modelengine.chats import ChatChunk
from modelengine.protocol import ServerInfo, to_json

OpenFrontDoor = Callable[..., str]
StartEngine = Callable[..., ServerInfo]

TESTS = Path(__file__).parent


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def envelope(self) -> Any:
        return json.loads(self.body)

    @property
    def msg(self) -> Any:
        return self.envelope["msg"]

    @property
    def lines(self) -> list[Any]:
        """The envelopes of a stream."""
        return [json.loads(line) for line in self.body.splitlines()]


def ask(
    address: str, path: str, body: Any = None, *, method: str = "POST", headers: dict[str, str] | None = None
) -> Reply:
    """One request as any HTTP client sends it; an iterator of bytes as body goes out in chunks."""
    host, port = address.split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    try:
        raw = json.dumps(body).encode() if isinstance(body, dict | list) else body
        connection.request(method, path, raw, {"content-type": "application/json", **(headers or {})})
        response = connection.getresponse()
        return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


@contextmanager
def engine_process(name: str, **fields: object) -> Iterator[tuple[subprocess.Popen[str], ServerInfo]]:
    """A fake engine in a process of its own, so that it can be killed; gives the process and its address."""
    engine = f"fakes.FakeEngine({name!r}, **{fields!r})"
    code = f"import fakes, servers\nwith servers.running({engine}.app()) as port: print(port, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=TESTS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process, ServerInfo(name, "127.0.0.1", int(process.stdout.readline()))
        finally:
            process.kill()


def through(front_door: str, client: ChatClient, name: str = "demo", **options: Any) -> Stream[ChatChunk]:
    """A stream that is relayed by the front door; the client itself would go to the engine directly."""
    request = chat_request(name, [{"role": "user", "content": "hi"}], None, options, True)
    flow = one(flows.Open(f"http://{front_door}/engine/inference", to_json(request)))
    return Stream(client._run(flow), flows.ChatParts())


def list_at(info: ServerInfo, *front_doors: str, api_key: str | None = None) -> None:
    """Registers a server; on a busy machine again, as engines do, where it answers too late for the front door."""
    for front_door in front_doors:
        with NameServerClient(front_door, api_key=api_key) as names:
            for _ in range(4):
                with suppress(errors.Unavailable):
                    names.register(info)
                    break
            else:
                names.register(info)


def one(effect: flows.Effect) -> flows.Flow[Any]:
    return (yield effect)


def until(condition: Callable[[], bool], within_s: float = 1.0) -> bool:
    """Whether the condition comes true in time; the bound is part of what is promised."""
    deadline = time.monotonic() + within_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()
