"""The front door over a registry of many names: look-ups, and how soon a change of the registry is answered.

A real front door on a real API server; the registry is written by the bench, whole, as the operator writes it. Nobody
listens at the addresses that are registered: a look-up asks no engine.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from bench import load, lookups, processes, stats
from bench.cluster.options import Options
from bench.processes import LOOPBACK, BenchFailed
from bench.report import Table
from bench.stats import Sample
from bench.traffic import Load
from cluster.admin import Admin, Object, Refused
from cluster.harness import control_plane
from modelengine import NameServerClient, ServerInfo, kinds
from modelengine.registry_configmap import Entry, Service, encode
from modelengine_kube import resources

NAMESPACE = "bench"
LISTED_S = 10.0
PAUSE_S = 0.001
LOOK_UP_NOTES = (
    f"POST {lookups.PATH} at one front door over a registry ConfigMap of so many names, asked for in turn;",
    "p50 and p99: from the request to the end of its answer; CPU: of both processes, for each look-up.",
)
CHANGE_NOTES = (
    "one name's address changes: from the write of the whole ConfigMap (sent) to the first look-up that gives the new",
    "address, asked for every millisecond; `written`: until the API server has answered the write; CPU of the front",
    "door for each change, those look-ups included.",
)


class Names:
    """So many registered names, and their ConfigMap."""

    def __init__(self, count: int) -> None:
        self._versions = [0] * count

    def infos(self) -> list[ServerInfo]:
        return [
            ServerInfo(f"model-{i:04}", f"10.{version % 250}.{i // 250}.{i % 250 + 1}", kinds.ENGINE_PORT)
            for i, version in enumerate(self._versions)
        ]

    def change(self, number: int) -> ServerInfo:
        """Another address for one of them."""
        number %= len(self._versions)
        self._versions[number] += 1
        return self.infos()[number]

    def manifest(self) -> Object:
        uid = "00000000-0000-4000-8000-{:012}"
        entries = [
            Entry(info.name, info.protocol, info.name, uid.format(i), (Service(info, uid.format(i), f"{info.name}-0"),))
            for i, info in enumerate(self.infos())
        ]
        return {"metadata": {"namespace": NAMESPACE, "name": kinds.REGISTRY_NAME}, "data": encode(entries)}


def run(options: Options) -> list[Table]:
    with control_plane.running() as plane:
        admin = Admin(plane)
        plane.create_namespace(NAMESPACE)
        settings: dict[str, Any] = {"registry": "configmaps", "namespaces": NAMESPACE, "namespace": NAMESPACE}
        look_ups: dict[str, list[Sample]] = {}
        changes: dict[str, list[Sample]] = {}
        with (
            processes.front_door(kubeconfig=plane.kubeconfig, **settings) as (door, port),
            NameServerClient(f"{LOOPBACK}:{port}") as client,
        ):
            for size in options.sizes:
                names = Names(size)
                write(admin, names.manifest())
                wait_listed(client, names.infos())
                loads = {
                    f"{size} names, {n} at once": lookups.the_load(names.infos(), port, door.pid, n, options.seconds)
                    for n in lookups.CONNECTIONS
                }
                cases = {case: partial(look_up, made) for case, made in loads.items()}
                look_ups |= stats.take_turns(cases, options.rounds)
                measure = partial(measure_changes, admin, client, names, door.pid, options.changes)
                changes |= stats.take_turns({f"{size} names": measure}, options.rounds)
        admin.close()
    return [
        Table("registry: look-ups", LOOK_UP_NOTES, look_ups),
        Table("registry: from a write to the answer", CHANGE_NOTES, changes),
    ]


def look_up(made: Load) -> Sample:
    return lookups.sample(load.run(made))


def write(admin: Admin, manifest: Object) -> None:
    path = resources.CONFIG_MAPS.path(NAMESPACE, kinds.REGISTRY_NAME)
    body = {"apiVersion": "v1", "kind": "ConfigMap", **manifest}
    try:
        admin.call("PUT", path, body)
    except Refused as refused:
        if refused.code != 404:
            raise
        admin.create(resources.CONFIG_MAPS, manifest)


def wait_listed(client: NameServerClient, infos: Sequence[ServerInfo]) -> float:
    """The moment in which the last of these was the answer; the others were written with it."""
    deadline = time.monotonic() + LISTED_S
    info = infos[-1]
    while client.get_services(info.protocol, info.name) != [info]:
        if time.monotonic() > deadline:
            raise BenchFailed(f"the front door does not list {info.name} at {info.host} within {LISTED_S:g} s")
        time.sleep(PAUSE_S)
    return time.perf_counter()


def measure_changes(admin: Admin, client: NameServerClient, names: Names, pid: int, count: int) -> Sample:
    written, answered = [], []
    cpu = processes.cpu_s(pid)
    for number in range(count):
        info = names.change(number)
        manifest = names.manifest()
        sent = time.perf_counter()
        write(admin, manifest)
        written.append(time.perf_counter() - sent)
        answered.append(wait_listed(client, [info]) - sent)
    return {
        "written p50 ms": stats.percentile(written, 50) * 1e3,
        "answered p50 ms": stats.percentile(answered, 50) * 1e3,
        "answered p99 ms": stats.percentile(answered, 99) * 1e3,
        "door ms CPU": stats.per(processes.cpu_s(pid) - cpu, count) * 1e3,
        "door MB": processes.megabytes(pid),
    }
