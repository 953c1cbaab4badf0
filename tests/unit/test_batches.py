"""Which texts share a step: nothing is left out, nobody waits long, and little is filled up."""

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelengine_runtime.batches import MAX_FILL, MAX_ROWS, Batches, Job, Row


def job(*lengths):
    return Job([Row(array("i", range(length))) for length in lengths], deliver=lambda outcome: None)


def lengths(places):
    return [len(place.row.token_ids) for place in places]


def filled(*jobs):
    batches = Batches()
    for one in jobs:
        batches.add(one)
    return batches


def test_a_step_takes_the_longest_texts_first_and_as_many_as_its_tokens_allow():
    batches = filled(job(3, 10, 4, 9, 8))
    assert lengths(batches.plan(30)) == [10, 9, 8]
    assert lengths(batches.plan(30)) == [4, 3]
    assert batches.plan(30) == []


def test_a_text_that_is_longer_than_a_step_has_one_of_its_own():
    batches = filled(job(100, 99))
    assert lengths(batches.plan(30)) == [100]
    assert lengths(batches.plan(30)) == [99]


def test_a_short_text_is_not_filled_up_to_more_than_twice_its_length():
    assert lengths(filled(job(10, 5, 4)).plan(1000)) == [10, 5]


def test_what_is_free_in_a_step_goes_to_others_texts_of_like_length():
    first, second = job(10, 9), job(50, 8, 1)
    places = filled(first, second).plan(40)
    assert [(place.job, place.index) for place in places] == [(first, 0), (first, 1), (second, 1)]


def test_one_text_does_not_wait_for_two_thousand_that_came_before():
    batches = filled(job(*[100] * 2000))
    batches.plan(1000)
    late = job(4)
    batches.add(late)
    steps = 0
    while late.pending:
        batches.plan(1000)
        steps += 1
    assert steps <= 2


def test_the_oldest_request_goes_on_however_many_short_ones_come():
    old = job(*[100] * 20)
    batches = filled(old)
    steps = 0
    while old.pending and steps < 100:
        batches.add(job(4))
        batches.plan(100)
        steps += 1
    assert steps <= 41


def test_a_request_that_is_removed_has_no_more_steps():
    gone, there = job(10), job(9)
    batches = filled(gone, there)
    batches.remove(gone)
    batches.remove(gone)
    assert [place.job for place in batches.plan(1000)] == [there]


@given(st.lists(st.lists(st.integers(1, 60), min_size=1, max_size=30), min_size=1, max_size=6), st.integers(1, 300))
def test_every_text_is_taken_once_within_the_bounds_of_a_step(sizes, step_tokens):
    jobs = [job(*some) for some in sizes]
    batches = filled(*jobs)
    taken = []
    while places := batches.plan(step_tokens):
        longest = max(lengths(places))
        assert len(places) == 1 or len(places) * longest <= step_tokens
        assert len(places) <= MAX_ROWS
        assert all(longest <= MAX_FILL * length for length in lengths(places))
        taken += [(jobs.index(place.job), place.index) for place in places]
    assert sorted(taken) == [(i, j) for i, some in enumerate(sizes) for j in range(len(some))]
    assert {one.tokens_pending for one in jobs} == {0}


@pytest.mark.parametrize("count", [0, 1])
def test_a_request_has_begun_when_a_text_of_it_was_taken(count):
    one = job(5, 5)
    one.take(5, count)
    assert one.has_begun == bool(count)
