"""Replicas that fail request after request, and how much may be tried twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from modelengine.protocol import ServerInfo
from modelengine_gateway.budget import RetryBudget
from modelengine_gateway.outliers import FAILURES_IN_A_ROW, MOST_OUT_S, OUT_S, Outliers
from routing_simulation import replicas

ONE, TWO, THREE = replicas(3)


def fail(outliers: Outliers, info: ServerInfo, now: float, times: int = FAILURES_IN_A_ROW) -> bool:
    return [outliers.failed(info, now) for _ in range(times)][-1]


def test_five_failures_in_a_row_put_a_replica_out_for_half_a_minute() -> None:
    outliers = Outliers()
    assert not fail(outliers, ONE, 0.0, FAILURES_IN_A_ROW - 1)
    assert outliers.admitted([ONE, TWO], 0.0) == [ONE, TWO]
    assert outliers.failed(ONE, 1.0)
    assert outliers.admitted([ONE, TWO], 1.0) == [TWO]
    assert outliers.admitted([ONE, TWO], 1.0 + OUT_S) == [ONE, TWO]


def test_one_that_answers_between_failures_stays() -> None:
    outliers = Outliers()
    for _ in range(10):
        fail(outliers, ONE, 0.0, FAILURES_IN_A_ROW - 1)
        outliers.succeeded(ONE)
    assert outliers.admitted([ONE, TWO], 0.0) == [ONE, TWO]


def test_each_time_it_is_out_longer_up_to_a_bound_and_after_a_good_while_as_if_new() -> None:
    outliers, now, lengths = Outliers(), 0.0, []
    for _ in range(12):
        fail(outliers, ONE, now)
        out = next(s for s in range(1, 1000) if ONE in outliers.admitted([ONE, TWO], now + s))
        lengths.append(out)
        now += out
    assert lengths == [min(OUT_S * n, MOST_OUT_S) for n in range(1, 13)]
    now += MOST_OUT_S + 1
    fail(outliers, ONE, now)
    assert outliers.admitted([ONE, TWO], now + OUT_S) == [ONE, TWO]


def test_what_went_off_the_list_is_forgotten() -> None:
    outliers = Outliers()
    fail(outliers, ONE, 0.0)
    outliers.forget(ONE)
    assert outliers.admitted([ONE, TWO], 0.0) == [ONE, TWO]


@given(st.integers(1, 40), st.data())
def test_never_are_more_out_than_a_tenth_or_one_and_never_the_last(count: int, data: st.DataObject) -> None:
    services, outliers = replicas(count), Outliers()
    for info in data.draw(st.lists(st.sampled_from(services), unique=True)):
        fail(outliers, info, 0.0)
    admitted = outliers.admitted(services, 0.0)
    assert admitted == [info for info in services if info in admitted]
    assert count - len(admitted) <= max(1, count // 10)
    assert admitted


def test_retries_are_a_fifth_of_what_is_open_and_three_at_least() -> None:
    budget = RetryBudget()

    def most() -> int:
        held = []
        while not budget.is_spent:
            held.append(budget.retry())
            held[-1].__enter__()
        for retry in held:
            retry.__exit__(None, None, None)
        return len(held)

    assert most() == 3
    requests = [budget.request() for _ in range(100)]
    for request in requests:
        request.__enter__()
    assert most() == 20
    for request in requests:
        request.__exit__(None, None, None)
    assert most() == 3
