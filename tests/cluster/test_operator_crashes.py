"""The operator is killed with -9 at one of its writes, and started anew: it ends where an undisturbed one ends.

Every write of a whole life times each moment takes a quarter of an hour: set MODELENGINE_TEST_LONG=1 for it. By default
some are drawn, other ones each day.
"""

from __future__ import annotations

import datetime
import json
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from cluster import fault_proxy, operators
from cluster.admin import Object
from cluster.fault_proxy import FaultProxy, Moment
from cluster.harness.control_plane import ControlPlane
from cluster.harness.processes import until
from cluster.kubelets import Kubelet
from cluster.operators import Home, Operator
from modelengine import kinds
from modelengine_kube import resources

DRAWN = 2
SEED = os.environ.get("MODELENGINE_TEST_SEED", datetime.date.today().isoformat())


@dataclass
class Life:
    """What was there after each of its phases, and how many pods it took."""

    phases: dict[str, Object] = field(default_factory=dict)
    pods: int = 0
    writes: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def home(control_plane: ControlPlane, kubelet: Kubelet) -> Iterator[Home]:
    control_plane.create_namespace("operator-crashes")
    with operators.home(control_plane, "operator-crashes") as home:
        yield home
    control_plane.kubectl("delete", "namespace", "operator-crashes", "--wait=false")


@pytest.fixture(scope="module")
def proxy(control_plane: ControlPlane) -> Iterator[FaultProxy]:
    with fault_proxy.running(control_plane) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def undisturbed(home: Home, proxy: FaultProxy) -> Life:
    return live(home, proxy)


def live(home: Home, proxy: FaultProxy, write: int = -1, moment: Moment = Moment.BEFORE) -> Life:
    """Made, scaled, renamed, deleted; killed once on the way."""
    life, mark = Life(), home.plane.audit.mark()
    if home.admin.find(resources.CONFIG_MAPS, home.namespace, kinds.REGISTRY_NAME):
        home.admin.delete(resources.CONFIG_MAPS, home.namespace, kinds.REGISTRY_NAME)
    operator = Operator(home, server=proxy.url)

    def crash() -> None:
        operator.kill()
        operator.start()

    proxy.crash_at(write, moment, crash)
    operator.start()
    try:
        for phase, is_so in (("made", _made), ("scaled", _scaled), ("renamed", _renamed), ("deleted", _deleted)):
            is_so(home)
            home.until_quiet(1.0)
            life.phases[phase] = home.dump()
        life.writes = list(proxy.writes)
        life.pods = len(home.pods_made(mark))
    except BaseException:
        print(f"the operator's log ends:\n{operator.output[-4000:]}")
        raise
    finally:
        operator.kill()
    assert "Traceback" not in operator.output
    return life


def _made(home: Home) -> None:
    home.engine("demo")
    _until_serving(home, "demo", 1)


def _scaled(home: Home) -> None:
    home.change("demo", replicas=2)
    _until_serving(home, "demo", 2)


def _renamed(home: Home) -> None:
    home.change("demo", model={"name": "other"})
    _until_serving(home, "other", 2)


def _deleted(home: Home) -> None:
    home.delete("demo")
    left = (resources.MODELENGINES, resources.DEPLOYMENTS, resources.PODS, resources.SERVICES, resources.BUDGETS)
    until(lambda: not any(home.admin.list(r, home.namespace) for r in left), 60, "all is gone")
    until(lambda: home.registry() == {}, 20, "the registry is empty")


def _until_serving(home: Home, name: str, replicas: int) -> None:
    home.until_reason("demo", "Serving")
    until(lambda: list(home.registry()) == [f"chat.{name}"], 20, "one name")
    assert len(home.listed(name)) == replicas


def draw() -> list[tuple[int, Moment]]:
    # A life has 36 to 40 writes; where one has fewer, the kill does not come and the test says so.
    crashes = [(write, moment) for write in range(34) for moment in Moment]
    return crashes if operators.IS_LONG else random.Random(SEED).sample(crashes, DRAWN)


@pytest.mark.parametrize(("write", "moment"), draw())
def test_killed_at_any_write_it_ends_where_an_undisturbed_one_ends_and_makes_no_second_pod(
    home: Home, proxy: FaultProxy, undisturbed: Life, write: int, moment: Moment
) -> None:
    life = live(home, proxy, write, moment)
    assert proxy.has_crashed, f"only {len(life.writes)} writes"
    for phase, state in life.phases.items():
        assert _lines(state) == _lines(undisturbed.phases[phase]), phase
    assert life.pods == undisturbed.pods


def _lines(state: Object) -> list[str]:
    """What pytest shows well where it differs."""
    return json.dumps(state, indent=1, sort_keys=True).splitlines()
