"""Which replica the front door picks."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from modelengine.protocol import ServerInfo
from modelengine_gateway.balance import Balance

ONE, TWO = ServerInfo("demo", "h", 1), ServerInfo("demo", "h", 2)


def test_the_replica_with_the_fewest_open_requests_is_picked() -> None:
    balance = Balance()
    with balance.lease(ONE):
        assert balance.pick([ONE, TWO]) == TWO
        with balance.lease(TWO), balance.lease(TWO):
            assert balance.pick([ONE, TWO]) == ONE


def test_among_equals_chance_decides_so_that_front_doors_do_not_march_in_step() -> None:
    offered: list[list[ServerInfo]] = []

    def choose_last(services: Sequence[ServerInfo]) -> ServerInfo:
        offered.append(list(services))
        return services[-1]

    assert Balance(choose_last).pick([ONE, TWO]) == TWO
    assert offered == [[ONE, TWO]]


def test_a_lease_is_given_back_even_when_the_request_fails() -> None:
    balance = Balance()
    with pytest.raises(ZeroDivisionError), balance.lease(ONE):
        1 / (balance.open_requests(ONE) - 1)
    assert balance.open_requests(ONE) == 0


def test_nothing_to_pick_from_gives_none() -> None:
    assert Balance().pick([]) is None
