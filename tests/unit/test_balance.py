"""Which replica a front door picks, and what it takes for a replica's load."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from modelengine.chats import ChatRequest, Message
from modelengine.protocol import EngineLoad, ServerInfo
from modelengine_gateway import affinity, balance
from modelengine_gateway.loads import Loads
from routing_simulation import replicas

ONE, TWO, THREE = replicas(3)
KEYS = [b"%d" % i for i in range(200)]


def test_the_replica_with_the_fewest_requests_is_picked() -> None:
    assert balance.pick({ONE: 2, TWO: 1, THREE: 2}) == TWO
    assert balance.pick({}) is None


def test_among_equals_chance_decides_so_that_front_doors_do_not_march_in_step() -> None:
    offered: list[list[ServerInfo]] = []

    def choose_last(services: Sequence[ServerInfo]) -> ServerInfo:
        offered.append(list(services))
        return services[-1]

    assert balance.pick({ONE: 1, TWO: 0, THREE: 0}, choose=choose_last) == THREE
    assert offered == [[TWO, THREE]]


@given(st.lists(st.integers(0, 200), min_size=2, max_size=8), st.binary(min_size=1, max_size=16))
def test_a_conversation_goes_home_up_to_the_threshold_and_beyond_it_to_the_least_busy(
    counts: list[int], key: bytes
) -> None:
    loads = dict(zip(replicas(len(counts)), counts, strict=True))
    picked = balance.pick(loads, key)
    assert picked is not None
    mean = sum(counts) / len(counts)
    home = affinity.home(key, list(loads))
    if loads[home] <= max(mean * balance.MOST_OF_MEAN, mean + balance.AT_LEAST_ABOVE):
        assert picked == home
    else:
        assert loads[picked] == min(counts)


def test_each_turn_of_a_conversation_has_its_key_and_another_beginning_has_another() -> None:
    def request(*said: tuple[str, str]) -> ChatRequest:
        return ChatRequest("demo", tuple(Message(role, content) for role, content in said))  # type: ignore[arg-type]

    first = request(("system", "Be brief."), ("user", "Hello"))
    second = request(("system", "Be brief."), ("user", "Hello"), ("assistant", "Hi!"), ("user", "And now?"))
    other = request(("system", "Be brief."), ("user", "Hello there"))
    assert affinity.key(first) == affinity.key(second) != affinity.key(other)
    assert affinity.key(first) != affinity.key(request(("user", "Be brief.Hello")))
    assert affinity.key(first) != affinity.key(replace(first, cache_salt="mine"))


def test_front_doors_agree_whatever_the_order_in_which_they_know_the_replicas() -> None:
    assert [affinity.home(key, [ONE, TWO, THREE]) for key in KEYS] == [
        affinity.home(key, [THREE, ONE, TWO]) for key in KEYS
    ]


def test_conversations_spread_and_only_those_of_a_replica_that_goes_move() -> None:
    homes = {key: affinity.home(key, [ONE, TWO, THREE]) for key in KEYS}
    assert all(40 < list(homes.values()).count(info) < 95 for info in (ONE, TWO, THREE))
    assert all(affinity.home(key, [ONE, TWO]) == home for key, home in homes.items() if home != THREE)


def test_a_report_counts_what_all_front_doors_opened_and_own_requests_count_at_once() -> None:
    loads = Loads()
    with loads.lease(ONE):
        loads.reported(ONE, EngineLoad(running=3, waiting=2))
        assert loads.of(ONE) == 5
        with loads.lease(ONE), loads.lease(ONE):
            assert loads.of(ONE) == 7
        assert loads.of(ONE) == 5
    assert loads.of(ONE) == 4


def test_a_request_that_was_under_way_when_a_report_was_made_is_not_forgotten() -> None:
    loads = Loads()
    with loads.lease(ONE), loads.lease(ONE):
        loads.reported(ONE, EngineLoad(running=0, waiting=0))
        assert loads.of(ONE) == 2


def test_who_reports_nothing_or_no_longer_has_the_load_that_is_known_here() -> None:
    loads = Loads()
    loads.reported(ONE, EngineLoad(running=9, waiting=0))
    loads.silent(ONE)
    with loads.lease(ONE):
        assert loads.of(ONE) == 1
    assert (loads.of(ONE), loads.last_report(ONE)) == (0, None)


def test_what_replicas_report_is_added_up_without_those_that_report_nothing() -> None:
    loads = Loads()
    assert loads.together([ONE, TWO]) is None
    loads.reported(ONE, EngineLoad(running=3, waiting=2, cache_usage=0.5))
    loads.reported(TWO, EngineLoad(running=1, waiting=0, cache_usage=0.2))
    with loads.lease(ONE):
        assert loads.together([ONE, TWO, THREE]) == EngineLoad(running=4, waiting=2, cache_usage=0.35)
    loads.silent(TWO)
    assert loads.together([ONE, TWO, THREE]) == EngineLoad(running=3, waiting=2, cache_usage=0.5)
