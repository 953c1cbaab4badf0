"""A replica's end, on a real node with two of them: until nobody is sent there any more, and what callers notice.

Callers go through both front doors all the time. Three ends: `kill -9` of the engine's process, a forced deletion of
its pod, and an ordinary one.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from bench import stats
from bench.cluster import release as releases
from bench.cluster import watching
from bench.cluster.options import Options
from bench.cluster.release import MODEL, NAMESPACE
from bench.cluster.watching import Listed, Seen
from bench.processes import BenchFailed
from bench.report import Table
from bench.stats import Sample
from cluster.harness.node import Node
from cluster.releases import Release
from modelengine import NameServerClient, kinds
from modelengine.protocol import CHAT

# Of each front door.
CALLERS = 2
PAUSE_S = 0.05
POLL_S = 0.01
GONE_S = 60.0
# So long callers go on after everything is over.
AFTER_S = 1.0
CHAT_PATH = "/engine/inference"
BODY = json.dumps(
    {
        "model": MODEL,
        "messages": [{"role": "user", "content": "hello"}],
        "options": {"max_new_tokens": 8},
        "stream": False,
    }
)
NOTES = (
    "seconds from the kill (or from the start of kubectl) until a replica is not in the registry any more, and until",
    "no front door gives its address; calls of four callers by way of the two front doors from the kill until a second",
    "after that: all, those that failed, the slowest; until the first call sent after the kill is answered; until",
    "there are two replicas again.",
)


@dataclass(frozen=True, slots=True)
class Call:
    sent: float
    ended: float
    # What went wrong; empty where the answer was good.
    failure: str


@dataclass
class Callers:
    """Threads that chat by way of front doors until `over`."""

    doors: Sequence[str]
    calls: list[Call] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def call_forever(self, door: str) -> None:
        connection = http.client.HTTPConnection(door, timeout=GONE_S)
        while not self.over.is_set():
            sent, failure = time.perf_counter(), ""
            try:
                connection.request("POST", CHAT_PATH, BODY, {"content-type": "application/json"})
                answer = connection.getresponse()
                text = answer.read()
                if answer.status != 200:
                    failure = f"HTTP {answer.status}: {text[:200].decode(errors='replace')}"
            except (OSError, http.client.HTTPException) as broken:
                failure = repr(broken)
                connection.close()
            self.calls.append(Call(sent, time.perf_counter(), failure))
            self.over.wait(PAUSE_S)
        connection.close()


def run(options: Options) -> list[Table]:
    with releases.running() as (release, node):
        release.apply(MODEL, NAMESPACE, replicas=2)
        releases.wait_replicas(release, 2)
        cases: dict[str, Callable[[str], None]] = {
            "kill -9": lambda pod: os.kill(node.pid_of(pod, NAMESPACE, kinds.ENGINE_CONTAINER), signal.SIGKILL),
            "forced deletion": lambda pod: delete(release, pod, "--grace-period=0", "--force"),
            "deletion": lambda pod: delete(release, pod),
        }
        turns = {name: lambda kill=kill: measure(release, node, kill) for name, kill in cases.items()}
        rounds = stats.take_turns(turns, options.rounds)
    return [Table("kills: from a replica's end to the other's answer", NOTES, rounds)]


def delete(release: Release, pod: str, *words: str) -> None:
    release.plane.kubectl("delete", "pod", pod, "-n", NAMESPACE, "--wait=false", *words)


def measure(release: Release, node: Node, kill: Callable[[str], None]) -> Sample:
    releases.wait_replicas(release, 2)
    doors = releases.doors(release)
    victim = release.pods(MODEL, NAMESPACE)[0]
    pod, host = victim["metadata"]["name"], victim["status"]["podIP"]
    with (
        watching.registries(release.plane, NAMESPACE) as registries,
        calling(doors) as callers,
        ExitStack() as clients,
    ):
        names = [clients.enter_context(NameServerClient(door)) for door in doors]
        until(lambda: all(len(client.get_services(CHAT, MODEL)) == 2 for client in names), "two replicas at each door")
        until(lambda: len(callers.calls) >= CALLERS * len(doors), "the callers' first answers")
        began = time.perf_counter()
        started = threading.Thread(target=kill, args=[pod], daemon=True)
        started.start()
        unrouted = until(
            lambda: all(host not in [info.host for info in client.get_services(CHAT, MODEL)] for client in names),
            "an end at the front doors",
        )

        def unlists(seen: Seen[Listed]) -> bool:
            return seen.at > began and pod not in seen.state.pods

        unlisted = registries.first(unlists, GONE_S, "an end in the registry")
        started.join(GONE_S)
        time.sleep(AFTER_S)
    releases.wait_replicas(release, 2)
    again = time.perf_counter()
    return {
        "unlisted s": unlisted - began,
        "unrouted s": unrouted - began,
        **of_calls(callers.calls, began),
        "two again s": again - began,
    }


def of_calls(calls: Sequence[Call], began: float) -> Sample:
    """Those that were under way at the kill, too."""
    concerned = [call for call in calls if call.ended > began]
    good = [call for call in concerned if not call.failure]
    if not any(call.sent > began for call in good):
        raise BenchFailed(f"no call was answered after the kill: {concerned[-1:]}")
    return {
        "calls": float(len(concerned)),
        "failed": float(len(concerned) - len(good)),
        "slowest ms": max(call.ended - call.sent for call in concerned) * 1e3,
        "next answer ms": (min(call.ended for call in good if call.sent > began) - began) * 1e3,
    }


def until(check: Callable[[], bool], what: str) -> float:
    """The moment in which it was so."""
    deadline = time.monotonic() + GONE_S
    while not check():
        if time.monotonic() > deadline:
            raise BenchFailed(f"not within {GONE_S:g} s: {what}")
        time.sleep(POLL_S)
    return time.perf_counter()


@contextmanager
def calling(doors: Sequence[str]) -> Iterator[Callers]:
    callers = Callers(doors)
    threads = [
        threading.Thread(target=callers.call_forever, args=[door], daemon=True)
        for door in doors
        for _ in range(CALLERS)
    ]
    for thread in threads:
        thread.start()
    try:
        yield callers
    finally:
        callers.over.set()
        for thread in threads:
            thread.join(GONE_S)
