"""A control plane with an operator and many ModelEngines, whose pods are played by one process (`kubelet`).

The operator is a process of this checkout with the rights that the chart gives it; the controllers that make the pods,
and the scheduler, are Kubernetes' own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from bench import processes, stats
from bench.cluster import calls, kubelet, watching
from bench.cluster.watching import Seen, Watching
from bench.processes import BenchFailed, Child
from cluster import operators
from cluster.admin import Admin, Object
from cluster.harness import control_plane
from cluster.harness.audit import READS, WRITES, Call
from cluster.harness.control_plane import ControlPlane
from cluster.operators import Operator
from modelengine import kinds
from modelengine_kube import resources
from modelengine_kube.resources import Resource

NODE = "bench-node"
NODES = Resource("v1", "Node", "nodes")
HOME = "bench-operator"
READY_S = 600.0
# So many requests of the bench are under way at once.
AT_ONCE = 8
QUIET_S = 3.0
QUIET_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Moment:
    """Everything that is counted up, now."""

    at: float
    wall: float
    audit: int
    cpu: dict[str, float]


@dataclass(frozen=True, slots=True)
class ReadyState:
    key: tuple[str, str]
    is_ready: bool


class Fleet:
    """`size` ModelEngines over `spread` namespaces."""

    def __init__(self, plane: ControlPlane, operator: Operator, stub: Child, size: int, spread: int) -> None:
        self.plane = plane
        self.operator = operator
        self.size = size
        self.admin = Admin(plane)
        self.namespaces = [f"bench-{number}" for number in range(spread)]
        self._stub = stub

    def key(self, number: int) -> tuple[str, str]:
        return self.namespaces[number % len(self.namespaces)], f"model-{number:04}"

    def make(self) -> None:
        """All ModelEngines."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(self._make, range(self.size)))

    def _make(self, number: int) -> None:
        namespace, name = self.key(number)
        spec = {"model": {"source": "demo://"}}
        self.admin.create(resources.MODELENGINES, {"metadata": {"namespace": namespace, "name": name}, "spec": spec})

    def wait_ready(self, seen: Watching[ReadyState]) -> list[float]:
        """For each ModelEngine the moment in which it was ready."""
        moments = []
        for number in range(self.size):
            key = self.key(number)

            def is_so(told: Seen[ReadyState], key: tuple[str, str] = key) -> bool:
                return told.state.is_ready and told.state.key == key

            moments.append(seen.first(is_so, READY_S, f"{key[1]} is ready"))
        return moments

    def now(self) -> Moment:
        """The operator is left out while it does not run."""
        pids = {
            "API server": self.plane.api_server.pid,
            "etcd": self.plane.etcd.pid,
            "controllers": self.plane.controller_manager.pid,
            "pods": self._stub.pid,
        }
        if self.operator.is_running:
            pids["operator"] = self.operator.pid
        cpu = {name: processes.cpu_s(pid) for name, pid in pids.items()}
        return Moment(time.perf_counter(), time.time(), self.plane.audit.mark(), cpu)

    def calls(self, since: Moment) -> list[Call]:
        """The operator's."""
        return self.plane.audit.calls(user=self.operator.home.user, since=since.audit)

    def wait_quiet(self, also_reads: bool = False) -> None:
        """Until the operator has written nothing for a while; where it has just begun, has read nothing either."""
        deadline = time.monotonic() + QUIET_TIMEOUT_S
        verbs = READS | WRITES if also_reads else WRITES
        while True:
            before = self.now()
            time.sleep(QUIET_S)
            if not calls.counted(self.calls(before), verbs):
                return
            if time.monotonic() > deadline:
                raise BenchFailed(f"the operator is not quiet within {QUIET_TIMEOUT_S:g} s")

    @property
    def peak_megabytes(self) -> float:
        with open(f"/proc/{self.operator.pid}/status") as told:
            line = next(line for line in told if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024 / 1e6


def used(before: Moment, after: Moment, name: str) -> float:
    """Seconds of CPU; not a number where the process is another one by now."""
    spent = after.cpu.get(name, stats.per(0, 0)) - before.cpu.get(name, stats.per(0, 0))
    return spent if spent >= 0 else stats.per(0, 0)


def ready_state(obj: Object) -> ReadyState:
    meta = obj["metadata"]
    return ReadyState((meta["namespace"], meta["name"]), watching.condition(obj, "Ready"))


@contextmanager
def running(size: int, spread: int) -> Iterator[Fleet]:
    """A control plane of its own, with nothing made yet and the operator at rest."""
    with ExitStack() as undo:
        plane = undo.enter_context(control_plane.running())
        add_node(plane)
        argv = (*processes.PYTHON, "bench.cluster.kubelet", NODE)
        stub = undo.enter_context(processes.running(argv, kubeconfig=plane.kubeconfig))
        plane.create_namespace(HOME)
        home = undo.enter_context(operators.home(plane, HOME, everywhere=True))
        operator = undo.enter_context(operators.running(home))
        fleet = Fleet(plane, operator, stub, size, spread)
        for namespace in fleet.namespaces:
            plane.create_namespace(namespace)
        stub.check_alive()
        yield fleet


def add_node(plane: ControlPlane) -> None:
    size = {"cpu": "10000", "memory": "100Ti", "pods": "10000", "ephemeral-storage": "100Ti"}
    ready = {"type": "Ready", "status": "True", "reason": "Stub", "message": "", "lastHeartbeatTime": kubelet.now()}
    status = {"capacity": size, "allocatable": size, "conditions": [ready]}
    admin = Admin(plane)
    admin.create(NODES, {"metadata": {"name": NODE}, "status": status})
    # With a first beat: one that comes after a Lease without any is never noticed.
    lease = {"holderIdentity": NODE, "leaseDurationSeconds": 40, "renewTime": kubelet.now(kubelet.FINE)}
    meta = {"name": NODE, "namespace": kubelet.LEASE_NAMESPACE}
    admin.create(resources.LEASES, {"metadata": meta, "spec": lease})
    admin.close()


def pods(fleet: Fleet) -> list[tuple[str, str]]:
    """Namespace and name of each engine's pod."""
    found = fleet.admin.list(resources.PODS, None, f"{kinds.LABEL_MANAGED_BY}={kinds.MANAGER}")
    return [(pod["metadata"]["namespace"], pod["metadata"]["name"]) for pod in found]
