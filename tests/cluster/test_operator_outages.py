"""The operator or the API server is away, two operators are there, and when all is well nothing is written."""

from __future__ import annotations

import time

from cluster import fault_proxy, kubelets, operators
from cluster.admin import Object
from cluster.fault_proxy import FaultProxy
from cluster.harness.control_plane import ControlPlane
from cluster.harness.processes import until
from cluster.kubelets import Kubelet
from cluster.operators import Home
from modelengine_kube import resources

AWAY_S = 60 if operators.IS_LONG else 5
# Nothing of the operator's own comes more seldom than every two minutes.
QUIET_S = 300 if operators.IS_LONG else 20
FROZEN_S = 20
# The Lease as the operator has it, but three times as fast.
FAST = """
from modelengine_operator import leadership
leadership.LEASE_S, leadership.VALID_S, leadership.RENEW_S = 5.0, 3.3, 1.0
"""
# The longest pause between two attempts of who waits for an API server.
BACK_S = 25.0


def test_what_happened_while_the_operator_was_down_is_put_right_at_its_start(home: Home) -> None:
    names = ("stays", "loses", "goes")
    with operators.running(home) as operator:
        for name in names:
            home.engine(name)
        for name in names:
            home.until_reason(name, "Serving")
        [old] = home.listed("loses")
        operator.kill()
        home.admin.delete(resources.PODS, home.namespace, old)
        home.delete("goes")
        home.change("stays", replicas=2)
        home.engine("comes")
        until(lambda: old not in [pod["metadata"]["name"] for pod in home.pods("loses")], 20, "the pod is gone")
        operator.start()
        operator.wait_ready()
        until(lambda: old not in home.listed("loses") and not home.listed("goes"), 10, "the dead are not listed")
        for name in ("stays", "loses", "comes"):
            home.until_reason(name, "Serving")
        assert {name: len(home.listed(name)) for name in ("stays", "loses", "comes", "goes")} == {
            "stays": 2,
            "loses": 1,
            "comes": 1,
            "goes": 0,
        }


def test_an_api_server_that_was_away_is_found_again_and_nothing_is_made_twice(
    home: Home, control_plane: ControlPlane
) -> None:
    with operators.running(home) as operator:
        home.engine("demo", replicas=2)
        home.until_reason("demo", "Serving")
        before, pid = {*home.listed("demo")}, operator.pid
        mark = control_plane.audit.mark()
        with control_plane.without_api_server():
            time.sleep(AWAY_S)
        began = time.monotonic()
        home.change("demo", replicas=3)

        def is_scaled() -> bool:
            assert before <= {*home.listed("demo")}, "a name was lost"
            deployment = home.child("demo")
            return deployment is not None and deployment["spec"]["replicas"] == 3

        until(is_scaled, BACK_S, "the operator is back")
        print(f"away {AWAY_S} s; the operator wrote {time.monotonic() - began:.1f} s after the API server was back")
        # Kubernetes' own controllers are slower to come back than ours.
        until(lambda: is_scaled() and len(home.listed("demo")) == 3, 120, "a third replica is listed")
        home.until_reason("demo", "Serving")
        assert (operator.pid, operator.is_running) == (pid, True)
        assert len(home.pods_made(mark)) == 1


def test_an_api_server_that_answers_with_errors_delays_and_breaks_nothing(home: Home, proxy: FaultProxy) -> None:
    with operators.running(home, server=proxy.url) as operator:
        for code in (409, 429, 500, 503):
            after = {"Retry-After": "1"} if code == 429 else {}
            with proxy.answering(code, methods=fault_proxy.WRITES, times=4, **after):
                home.engine(f"demo-{code}")
                home.until_reason(f"demo-{code}", "Serving")
        assert operator.is_healthy
        assert sorted(home.registry()) == ["chat.demo-409", "chat.demo-429", "chat.demo-500", "chat.demo-503"]
        # None is left without: what was refused was not taken for done.
        for code in (409, 429, 500, 503):
            assert home.child(f"demo-{code}", resources.BUDGETS) is not None


def test_of_two_operators_only_the_one_with_the_lease_writes_also_when_it_wakes_from_a_long_sleep(
    home: Home, control_plane: ControlPlane
) -> None:
    with (
        fault_proxy.running(control_plane) as of_first,
        fault_proxy.running(control_plane) as of_second,
        operators.running(home, name="first", server=of_first.url, code=FAST if not operators.IS_LONG else "") as first,
        operators.running(home, name="second", server=of_second.url, code=FAST if not operators.IS_LONG else ""),
    ):
        home.engine("demo")
        home.until_reason("demo", "Serving")
        assert of_second.writes == []
        home.until_quiet()
        transitions = _lease(home)["leaseTransitions"]
        with first.frozen():
            written = len(of_first.writes)
            home.change("demo", replicas=2)
            home.until_reason("demo", "Serving", FROZEN_S + 10)
        # Awake, and everything it knows is old.
        time.sleep(1)
        home.change("demo", replicas=1)
        home.until_reason("demo", "Serving")
        time.sleep(4)
        assert of_first.writes[written:] == []
        lease = _lease(home)
        assert (lease["holderIdentity"], lease["leaseTransitions"]) == ("second", transitions + 1)


def test_a_leader_that_is_told_to_stop_gives_its_lease_to_the_next_at_once(home: Home) -> None:
    with operators.running(home, name="first") as first, operators.running(home, name="second"):
        home.engine("demo")
        home.until_reason("demo", "Serving")
        assert first.stop() == 0
        began = time.monotonic()
        home.change("demo", replicas=2)
        home.until_reason("demo", "Serving", 12)
        print(f"handed over and served in {time.monotonic() - began:.1f} s")


def _lease(home: Home) -> Object:
    spec: Object = home.admin.get(resources.LEASES, home.namespace, "modelengine-operator")["spec"]
    return spec


def test_when_all_is_settled_nothing_is_written_and_a_new_start_writes_and_tells_nothing(
    home: Home, kubelet: Kubelet, control_plane: ControlPlane
) -> None:
    kubelet.says(home.namespace, "crashing", kubelets.crashing(1, "error: no such file"))
    kubelet.says(home.namespace, "silent", kubelets.STARTING)
    wanted = {
        "serving": "Serving",
        "hub": "Unschedulable",
        "crashing": "ModelLoadFailed",
        "silent": "Starting",
        "placeless": "Unschedulable: disk=fast",
        "foreign": "ObjectConflict",
        "asleep": "ScaledToZero",
        "rival": "NameConflict",
    }
    home.admin.create(resources.SERVICE_ACCOUNTS, {"metadata": {"name": "foreign-engine", "namespace": home.namespace}})
    with operators.running(home) as operator:
        home.engine("serving", resources={"limits": {"cpu": "1000m", "memory": "1024Mi"}, "requests": {"cpu": "0.5"}})
        home.engine("hub", source="hf://org/name", cache={"size": "1024Mi"})
        home.engine("placeless", nodeSelector={"disk": "fast"})
        home.engine("asleep", replicas=0)
        for name in ("crashing", "silent", "foreign"):
            home.engine(name)
        time.sleep(1.1)
        home.engine("rival", model={"name": "serving"})
        for name, reason in wanted.items():
            home.until_reason(name, reason)
        home.until_quiet()
        events = {name: len(home.events(name)) for name in wanted}
        mark = control_plane.audit.mark()
        time.sleep(QUIET_S)
        assert home.calls(mark) == []
        leases = [c for c in control_plane.audit.calls(user=home.user, since=mark) if c.resource == "leases"]
        reads = len(control_plane.audit.calls(user=home.user, since=mark)) - len(leases)
        print(f"in {QUIET_S} s: no write, {len(leases)} calls for the lease, {reads} other reads")

        operator.stop()
        mark = control_plane.audit.mark()
        operator.start()
        operator.wait_ready()
        time.sleep(4)
        assert home.calls(mark) == []
        assert {name: len(home.events(name)) for name in wanted} == events
        for name, reason in wanted.items():
            home.until_reason(name, reason, 1)
