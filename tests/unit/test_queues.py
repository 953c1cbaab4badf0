"""Who waits for a replica, and in which order he is called."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from modelengine import errors
from modelengine_gateway.queues import Line, Place

FULL = errors.Busy("full", retry_after_s=1)


def called(places: list[Place]) -> list[int]:
    return [i for i, place in enumerate(places) if place.called.is_set()]


def stand(line: Line, stack: ExitStack, count: int) -> list[Place]:
    return [stack.enter_context(line.place(FULL)) for _ in range(count)]


def test_the_first_is_called_first_and_who_is_refused_again_has_kept_his_place() -> None:
    line = Line(10)
    with ExitStack() as stack:
        places = stand(line, stack, 3)
        line.call()
        assert called(places) == [0]
        line.back(places[0])
        assert called(places) == []
        line.call(2)
        assert called(places) == [0, 1]


def test_twice_as_many_are_called_each_time_until_somebody_comes_back() -> None:
    line = Line(100)
    with ExitStack() as stack:
        places = stand(line, stack, 20)
        counts = []
        for _ in range(3):
            line.tick()
            counts.append(len(called(places)))
        assert counts == [1, 3, 7]
        line.back(places[6])
        line.tick()
        assert called(places) == list(range(7))


def test_where_the_line_is_full_the_refusal_is_said_at_once() -> None:
    line = Line(2)
    with ExitStack() as stack:
        stand(line, stack, 2)
        line.call()
        with pytest.raises(errors.Busy) as refused, line.place(FULL):
            pass
        assert refused.value is FULL
    assert len(line) == 0


def test_who_leaves_is_called_no_more() -> None:
    line = Line(5)
    with ExitStack() as stack:
        first = stack.enter_context(line.place(FULL))
        with line.place(FULL) as second:
            assert len(line) == 2
        line.call(5)
        assert first.called.is_set()
        assert not second.called.is_set()


def test_who_does_not_come_back_is_taken_and_takes_nobody_s_place_but_may_still_be_refused() -> None:
    line = Line(2)
    with ExitStack() as stack:
        first, second = stand(line, stack, 2)
        line.call(1)
        line.tick()
        assert len(line) == 2, "he may have been called a moment ago"
        line.tick()
        line.tick()
        assert len(line) == 0
        third, fourth = stand(line, stack, 2)
        line.back(second)
        line.call(2)
        assert [place.called.is_set() for place in (first, second, third, fourth)] == [True, True, True, False]
    assert line.is_left
