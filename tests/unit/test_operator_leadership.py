"""Who of several operators may write, over a Lease that two of them see, with clocks that the test moves."""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections.abc import AsyncIterator
from typing import Any

import pytest

from modelengine_kube import errors, resources
from modelengine_kube.resources import Resource
from modelengine_operator import leadership
from modelengine_operator.leadership import LEASE_S, VALID_S, Leadership, NotLeading

Object = dict[str, Any]


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Leases:
    """The API server, as far as it has one Lease."""

    def __init__(self) -> None:
        self.lease: Object | None = None
        self.failure: errors.KubeError | None = None
        self.is_silent = False
        self.writes = 0
        self.calls = 0
        self._version = 0

    async def get(self, resource: Resource, namespace: str, name: str) -> Object:
        await self._answer()
        assert (resource, namespace, name) == (resources.LEASES, "home", "modelengine-operator")
        if self.lease is None:
            raise errors.NotFound("no lease")
        return copy.deepcopy(self.lease)

    async def create(self, resource: Resource, obj: Object) -> Object:
        await self._answer()
        if self.lease is not None:
            raise errors.Conflict("it is there already")
        return self._store(obj)

    async def replace(self, resource: Resource, obj: Object) -> Object:
        await self._answer()
        assert self.lease is not None
        if obj["metadata"].get("resourceVersion") != self.lease["metadata"]["resourceVersion"]:
            raise errors.Conflict("somebody wrote meanwhile")
        return self._store(obj)

    @property
    def spec(self) -> Object:
        assert self.lease is not None
        return dict(self.lease["spec"])

    async def several_calls(self) -> None:
        """Until everybody has looked a few times more."""
        until = self.calls + 12
        async with asyncio.timeout(10):
            while self.calls < until:
                await asyncio.sleep(0.01)

    async def _answer(self) -> None:
        self.calls += 1
        await asyncio.sleep(0)
        if self.is_silent:
            await asyncio.Event().wait()
        if self.failure is not None:
            raise self.failure

    def _store(self, obj: Object) -> Object:
        self._version += 1
        self.writes += 1
        self.lease = copy.deepcopy(obj)
        self.lease["metadata"]["resourceVersion"] = str(self._version)
        return copy.deepcopy(self.lease)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def leases() -> Leases:
    return Leases()


@pytest.fixture
def one(leases: Leases, clock: Clock) -> Leadership:
    return Leadership(leases, "home", "operator-1", clock)


@pytest.fixture
def other(leases: Leases, clock: Clock) -> Leadership:
    return Leadership(leases, "home", "operator-2", clock)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leadership, "RENEW_S", 0.02)


@contextlib.asynccontextmanager
async def running(*several: Leadership) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(each.run_forever()) for each in several]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def test_the_first_makes_the_lease_and_leads(one: Leadership, leases: Leases) -> None:
    with pytest.raises(NotLeading):
        one.check()
    async with running(one):
        await asyncio.wait_for(one.wait(), 2)
        one.check()
    assert leases.lease is not None
    assert (leases.lease["apiVersion"], leases.lease["kind"]) == ("coordination.k8s.io/v1", "Lease")
    meta = leases.lease["metadata"]
    assert (meta["namespace"], meta["name"]) == ("home", "modelengine-operator")
    assert leases.spec["holderIdentity"] == "operator-1"
    assert leases.spec["leaseDurationSeconds"] == 15
    assert leases.spec["leaseTransitions"] == 0
    assert leases.spec["acquireTime"].endswith("Z")


async def test_only_one_of_two_leads(one: Leadership, other: Leadership, leases: Leases) -> None:
    async with running(one, other):
        await leases.several_calls()
        assert sorted([one.is_leading, other.is_leading]) == [False, True]


async def test_who_leads_renews_and_goes_on_leading(one: Leadership, leases: Leases, clock: Clock) -> None:
    async with running(one):
        await asyncio.wait_for(one.wait(), 2)
        first = leases.spec
        for _ in range(4):
            clock.now_s += VALID_S / 2
            await leases.several_calls()
            assert one.is_leading
    assert leases.spec["renewTime"] > first["renewTime"]
    assert leases.spec["acquireTime"] == first["acquireTime"]
    assert leases.spec["leaseTransitions"] == 0


async def test_who_can_not_renew_stops_before_another_may_take_over(
    one: Leadership, other: Leadership, leases: Leases, clock: Clock
) -> None:
    async with running(one):
        await asyncio.wait_for(one.wait(), 2)
    assert one.is_leading
    async with running(other):
        await leases.several_calls()
        clock.now_s += VALID_S
        assert not one.is_leading
        with pytest.raises(NotLeading):
            one.check()
        await leases.several_calls()
        assert not other.is_leading
        clock.now_s += LEASE_S - VALID_S
        await leases.several_calls()
        assert not other.is_leading, "exactly as long as the lease is not longer than it"
        clock.now_s += 0.1
        await asyncio.wait_for(other.wait(), 2)
    assert leases.spec["holderIdentity"] == "operator-2"
    assert leases.spec["leaseTransitions"] == 1
    assert VALID_S < LEASE_S


async def test_a_lease_that_is_renewed_is_never_taken(
    one: Leadership, other: Leadership, leases: Leases, clock: Clock
) -> None:
    async with running(one):
        await asyncio.wait_for(one.wait(), 2)
        async with running(other):
            for _ in range(6):
                clock.now_s += LEASE_S / 3
                await leases.several_calls()
                assert not other.is_leading


async def test_a_lease_that_is_given_back_is_taken_at_once(one: Leadership, other: Leadership, leases: Leases) -> None:
    async with running(one):
        await asyncio.wait_for(one.wait(), 2)
    await one.release()
    assert not one.is_leading
    assert leases.spec["holderIdentity"] == ""
    async with running(other):
        await asyncio.wait_for(other.wait(), 2)
    assert leases.spec["leaseTransitions"] == 1


async def test_who_does_not_lead_gives_nothing_back(one: Leadership, other: Leadership, leases: Leases) -> None:
    async with running(one):
        await asyncio.wait_for(one.wait(), 2)
    writes = leases.writes
    await other.release()
    assert leases.writes == writes


async def test_a_lease_that_went_to_another_is_not_taken_from_it_by_giving_back(
    one: Leadership, leases: Leases
) -> None:
    async with running(one):
        await asyncio.wait_for(one.wait(), 2)
    assert leases.lease is not None
    leases.lease["spec"]["holderIdentity"] = "operator-2"
    await one.release()
    assert leases.spec["holderIdentity"] == "operator-2"


@pytest.mark.parametrize("is_silent", [False, True], ids=["errors", "silence"])
async def test_while_the_api_server_is_away_leading_ends_and_comes_back_by_itself(
    one: Leadership, leases: Leases, clock: Clock, is_silent: bool
) -> None:
    async with running(one):
        await asyncio.wait_for(one.wait(), 2)
        leases.failure, leases.is_silent = errors.Unreachable("away"), is_silent
        await leases.several_calls()
        assert one.is_leading
        clock.now_s += VALID_S
        assert not one.is_leading
        waiting = asyncio.create_task(one.wait())
        await leases.several_calls()
        assert not waiting.done()
        leases.failure, leases.is_silent = None, False
        await asyncio.wait_for(waiting, 2)
        assert one.is_leading


async def test_a_slow_answer_counts_from_the_question(one: Leadership, leases: Leases, clock: Clock) -> None:
    take = leases.create

    async def create(resource: Resource, obj: Object) -> Object:
        clock.now_s += 3
        return await take(resource, obj)

    leases.create = create
    async with running(one):
        await asyncio.wait_for(one.wait(), 2)
        clock.now_s += VALID_S - 3
        assert not one.is_leading


async def test_a_lease_without_a_spec_belongs_to_nobody(one: Leadership, leases: Leases) -> None:
    leases.lease = {"metadata": {"namespace": "home", "name": "modelengine-operator", "resourceVersion": "5"}}
    async with running(one):
        await asyncio.wait_for(one.wait(), 2)
    assert leases.spec["holderIdentity"] == "operator-1"


async def test_the_same_operator_started_anew_leads_at_once(leases: Leases, clock: Clock) -> None:
    before = Leadership(leases, "home", "operator-1", clock)
    async with running(before):
        await asyncio.wait_for(before.wait(), 2)
    after = Leadership(leases, "home", "operator-1", clock)
    async with running(after):
        await asyncio.wait_for(after.wait(), 2)
    assert leases.spec["leaseTransitions"] == 0


async def test_of_two_that_take_a_free_lease_one_gets_it(one: Leadership, other: Leadership, leases: Leases) -> None:
    async with running(one):
        await asyncio.wait_for(one.wait(), 2)
    await one.release()
    third = Leadership(leases, "home", "operator-3", Clock())
    async with running(other, third):
        await leases.several_calls()
        assert sorted([other.is_leading, third.is_leading]) == [False, True]
