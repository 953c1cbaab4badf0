"""Two front doors as processes before the same replicas: loads stay level, and conversations find their cache."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

import processes
from callers import ask, until
from fakes import FakeEngine
from modelengine import NameServerClient
from modelengine.protocol import ServerInfo
from servers import running

LEASE_S = 10
RENEW_S = 2.0
ENGINES = 3


@pytest.fixture
def doors(tmp_path: Path) -> Iterator[list[str]]:
    with ExitStack() as stack:
        ports = [processes.free_port() for _ in range(2)]
        for port in ports:
            folder = tmp_path / str(port)
            folder.mkdir()
            stack.enter_context(processes.front_door(folder, port, lease_s=LEASE_S))
        yield [f"127.0.0.1:{port}" for port in ports]


@contextmanager
def listed(services: Sequence[ServerInfo], doors: Sequence[str]) -> Iterator[None]:
    """Keeps the services listed at each of the doors: on one machine an engine itself registers at one only."""
    over = threading.Event()

    def register() -> None:
        for door in doors:
            with NameServerClient(door) as names:
                for info in services:
                    names.register(info)

    def renew() -> None:
        while not over.wait(RENEW_S):
            register()

    register()
    renewing = threading.Thread(target=renew)
    renewing.start()
    try:
        yield
    finally:
        over.set()
        renewing.join()


def chat(address: str, *said: str, **options: Any) -> str:
    """The content of the answer to this conversation, whose turns take turns."""
    roles = itertools.cycle(("user", "assistant"))
    messages = [{"role": role, "content": words} for role, words in zip(roles, said, strict=False)]
    body = {"model": "demo", "messages": messages, "options": options, "stream": False}
    reply = ask(address, "/engine/inference", body)
    assert reply.status == 200, reply.envelope
    content: str = reply.msg["content"]
    return content


def test_loads_of_replicas_differ_by_less_than_a_fifth_though_one_door_has_four_of_five_requests(
    doors: list[str],
) -> None:
    chance = random.Random(6)
    fakes = [FakeEngine(words=["x"] * 10, pause_s=0.1) for _ in range(ENGINES)]
    with ExitStack() as stack:
        ports = [stack.enter_context(running(fake.app(), grace_s=0)) for fake in fakes]
        stack.enter_context(listed([ServerInfo("demo", "127.0.0.1", port) for port in ports], doors))
        seen = [0] * ENGINES
        over = threading.Event()

        def look() -> None:
            while not over.wait(0.02):
                for i, fake in enumerate(fakes):
                    seen[i] += fake.open_streams

        with ThreadPoolExecutor(200) as pool:
            looking = threading.Thread(target=look)
            for number in range(450):
                door = doors[0] if chance.random() < 0.8 else doors[1]
                body = {"model": "demo", "messages": [{"role": "user", "content": f"{number}"}]}
                pool.submit(ask, door, "/engine/inference", body)
                time.sleep(chance.expovariate(45))
                if number == 60:
                    looking.start()
            over.set()
            looking.join()
    assert sum(len(fake.requests) for fake in fakes) == 450
    assert (max(seen) - min(seen)) / (sum(seen) / ENGINES) < 0.2


def test_thirty_conversations_find_twice_as_much_in_the_cache_as_where_turns_go_round(
    doors: list[str], tmp_path: Path
) -> None:
    chance = random.Random(6)
    with ExitStack() as stack:
        for number in range(ENGINES):
            stack.enter_context(processes.engine(tmp_path, int(doors[0].rpartition(":")[2]), number))
        with NameServerClient(doors[0]) as names:
            assert until(lambda: len(names.get_services("chat", "demo")) == ENGINES, 120)
            services = names.get_services("chat", "demo")
        stack.enter_context(listed(services, doors[1:]))
        addresses = [f"{info.host}:{info.port}" for info in services]
        around = itertools.cycle(addresses)
        in_turn = hit_rate(addresses, lambda: replay("Alan", lambda: next(around)))
        through = hit_rate(addresses, lambda: replay("Beth", lambda: chance.choice(doors)))
    assert through > 2 * in_turn
    assert through > 0.3


def replay(teller: str, door: Callable[[], str]) -> None:
    """Thirty conversations of four turns each, one after the other, so that chance has no part in whose turn is next;
    each turn goes to the address that `door` gives."""
    for number in range(30):
        said = [f"{number}: {teller} says that " + "the river is long and the night is cold. " * 4]
        for turn in range(4):
            said.append(chat(door(), *said, max_new_tokens=16, temperature=0))
            said.append(f"And then, {turn}? " + "Tell me what the old man saw there by the sea. " * 3)


def hit_rate(addresses: Sequence[str], act: Callable[[], None]) -> float:
    """Of the prompts' tokens that came to the engines meanwhile, what share they knew."""
    before = counted(addresses)
    act()
    asked, hit = (after - then for after, then in zip(counted(addresses), before, strict=True))
    return hit / asked


def counted(addresses: Sequence[str]) -> tuple[int, int]:
    loads = [ask(address, "/engine/info", {}).msg["load"] for address in addresses]
    return sum(load["prompt_tokens"] for load in loads), sum(load["hit_tokens"] for load in loads)
