"""The directory of names against a plain model of it, and its promises one by one."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from modelengine.protocol import ServerInfo
from modelengine.registry import Registry

LEASE_S = 6.0
ONE = ServerInfo("demo", "127.0.0.1", 1)
TWO = ServerInfo("demo", "127.0.0.1", 2)
OTHER = ServerInfo("other", "127.0.0.1", 3)


@pytest.fixture
def registry() -> Registry:
    return Registry(LEASE_S)


def test_a_new_entry_changes_the_membership_and_a_renewal_does_not(registry: Registry) -> None:
    assert registry.register(ONE, now=0)
    revision = registry.revision
    assert not registry.register(ONE, now=1)
    assert registry.revision == revision
    assert registry.services("chat", "demo") == [ONE]


def test_replicas_of_one_name_stand_side_by_side_in_the_order_they_came(registry: Registry) -> None:
    for info in (TWO, ONE):
        registry.register(info, now=0)
    assert registry.services("chat", "demo") == [TWO, ONE]


def test_names_come_in_the_order_they_were_first_served_and_only_of_their_protocol(registry: Registry) -> None:
    for info in (OTHER, ONE, TWO, ServerInfo("encoder", "h", 9, "retriever")):
        registry.register(info, now=0)
    assert registry.names("chat") == ["other", "demo"]
    assert registry.names("retriever") == ["encoder"]
    assert registry.names("nothing") == []


@pytest.mark.parametrize(
    "near_miss",
    [
        ServerInfo("demo2", "127.0.0.1", 1),
        ServerInfo("demo", "127.0.0.2", 1),
        ServerInfo("demo", "127.0.0.1", 2),
        ServerInfo("demo", "127.0.0.1", 1, "retriever"),
    ],
)
def test_an_entry_is_identified_by_all_four_fields(registry: Registry, near_miss: ServerInfo) -> None:
    registry.register(ONE, now=0)
    assert not registry.deregister(near_miss)
    assert ONE in registry


def test_the_last_replica_takes_the_name_with_it(registry: Registry) -> None:
    registry.register(ONE, now=0)
    assert registry.deregister(ONE)
    assert registry.names("chat") == []
    assert not registry.deregister(ONE)


def test_a_lease_ends_exactly_after_its_length_and_a_renewal_moves_it(registry: Registry) -> None:
    registry.register(ONE, now=0)
    registry.register(TWO, now=0)
    registry.register(ONE, now=4)
    assert registry.next_expiry == LEASE_S
    assert registry.expire(LEASE_S - 0.001) == []
    assert registry.expire(LEASE_S) == [TWO]
    assert registry.next_expiry == 4 + LEASE_S


class AgainstAModel(RuleBasedStateMachine):
    """Any sequence of calls gives what a dict of expiry times gives."""

    infos = Bundle("infos")

    def __init__(self) -> None:
        super().__init__()
        self.registry = Registry(LEASE_S)
        self.now = 0.0
        self.expiry: dict[ServerInfo, float] = {}
        self.revision = 0

    @rule(
        target=infos,
        name=st.sampled_from(["a", "b/c", "名"]),
        host=st.sampled_from(["h", "::1"]),
        port=st.integers(1, 3),
        protocol=st.sampled_from(["chat", "retriever"]),
    )
    def meet(self, name: str, host: str, port: int, protocol: str) -> ServerInfo:
        return ServerInfo(name, host, port, protocol)

    @rule(info=infos)
    def register(self, info: ServerInfo) -> None:
        is_new = info not in self.expiry
        assert self.registry.register(info, self.now) is is_new
        self.revision += is_new
        self.expiry[info] = self.now + LEASE_S

    @rule(info=infos)
    def deregister(self, info: ServerInfo) -> None:
        was_listed = self.expiry.pop(info, None) is not None
        assert self.registry.deregister(info) is was_listed
        self.revision += was_listed

    @rule(seconds=st.floats(0, 2 * LEASE_S))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        ended = {info for info, expiry in self.expiry.items() if expiry <= self.now}
        assert set(self.registry.expire(self.now)) == ended
        self.expiry = {info: expiry for info, expiry in self.expiry.items() if info not in ended}
        self.revision += len(ended)

    @invariant()
    def both_agree(self) -> None:
        assert set(self.registry.all()) == set(self.expiry)
        assert len(self.registry) == len(self.expiry)
        assert self.registry.revision == self.revision
        assert self.registry.next_expiry == min(self.expiry.values(), default=None)
        for protocol in ("chat", "retriever"):
            listed = [info for info in self.expiry if info.protocol == protocol]
            assert set(self.registry.names(protocol)) == {info.name for info in listed}
            for name in {info.name for info in listed}:
                assert set(self.registry.services(protocol, name)) == {i for i in listed if i.name == name}


AgainstAModel.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
test_any_sequence_of_calls_agrees_with_a_plain_model = AgainstAModel.TestCase
