"""How many look-ups the name server answers, how fast, and what one costs it.

A real name server with NAMES registered names; one small listener stands for all their engines, since the server
asks each new one whether it is ready. The names are asked for in turn.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from bench import load, processes, stats, traffic
from bench.options import Options
from bench.processes import LOOPBACK, BenchFailed
from bench.report import Table
from bench.stats import Sample
from bench.traffic import Load, Measured
from modelengine import NameServerClient, ServerInfo

NAMES = 100
# The longest lease that the name server grants; the names are renewed before each case, which is shorter than that.
LEASE_S = 10
CONNECTIONS = (1, 64)
PATH = "/nameserver/get_services"
SERVER = "name server"
NOTES = (
    f"POST {PATH} for {NAMES} registered names in turn, connections kept alive;",
    "p50 and p99: from the request to the end of its answer; CPU: of both processes, for each look-up.",
    "Raw: sockets and rendered requests, in a process of their own. Our client: NameServerClient.get_services.",
)


def run(options: Options) -> list[Table]:
    with engines_that_are_ready() as port, processes.front_door(lease_s=LEASE_S) as (server, door):
        infos = [ServerInfo(f"model-{i:03}", LOOPBACK, port) for i in range(NAMES)]
        with NameServerClient(f"{LOOPBACK}:{door}") as client:

            def raw(connections: int, seconds: float) -> Sample:
                renew(client, infos)
                return sample(load.run(the_load(infos, door, server.pid, connections, seconds)))

            def ours() -> Sample:
                renew(client, infos)
                return sample(measure_client(client, infos, server.pid, options.seconds))

            raw(CONNECTIONS[-1], options.warm_up_s)
            cases = {f"raw, {n} at once": partial(raw, n, options.seconds) for n in CONNECTIONS}
            rounds = stats.take_turns({**cases, "our client, 1 at once": ours}, options.rounds)
    return [Table("lookups", NOTES, rounds)]


def the_load(infos: Sequence[ServerInfo], port: int, pid: int, connections: int, seconds: float) -> Load:
    return Load(
        port=port,
        path=PATH,
        bodies=[json.dumps({"protocol": info.protocol, "name": info.name}) for info in infos],
        connections=connections,
        seconds=seconds,
        expect='"port"',
        pids={SERVER: pid},
    )


def sample(measured: Measured) -> Sample:
    return {
        "look-ups/s": stats.per(measured.requests, measured.seconds),
        "p50 ms": measured.whole_p50 * 1e3,
        "p99 ms": measured.whole_p99 * 1e3,
        "server us CPU": stats.per(measured.cpu[SERVER], measured.requests) * 1e6,
        "client us CPU": stats.per(measured.own_cpu, measured.requests) * 1e6,
    }


def measure_client(client: NameServerClient, infos: Sequence[ServerInfo], pid: int, seconds: float) -> Measured:
    """Look-ups with our own client, in this process, one after the other."""
    times: list[float] = []
    cpu, own_cpu, started = processes.cpu_s(pid), time.process_time(), time.perf_counter()
    now = started
    while now < started + seconds:
        info = infos[len(times) % len(infos)]
        if client.get_services(info.protocol, info.name) != [info]:
            raise BenchFailed(f"{info.name} is not listed any more")
        before, now = now, time.perf_counter()
        times.append(now - before)
    used = {SERVER: processes.cpu_s(pid) - cpu}
    return traffic.summarize(times, times, now - started, 0, time.process_time() - own_cpu, used)


def renew(client: NameServerClient, infos: Sequence[ServerInfo]) -> None:
    for info in infos:
        client.register(info)


class _Ready(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def engines_that_are_ready() -> Iterator[int]:
    """A port on which every GET is answered 200."""
    with ThreadingHTTPServer((LOOPBACK, 0), _Ready) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
