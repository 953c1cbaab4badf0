"""The step thread of vectors and scores, turned by hand: what reaches whom when all goes well, and when it does not."""

from array import array

import pytest

from callers import until
from modelengine import errors
from modelengine_runtime.batches import Job, Row
from modelengine_runtime.encode_loop import MIN_STEP_TOKENS, EncodeLoop


class Lengths:
    """A model that gives each text its length; one with a 13 in it makes every step fail that it is part of."""

    def __init__(self):
        self.steps = []

    def compute(self, rows):
        self.steps.append([len(row.token_ids) for row in rows])
        if any(13 in row.token_ids for row in rows):
            raise ValueError("the model broke")
        return [float(len(row.token_ids)) for row in rows]


@pytest.fixture
def runner():
    return Lengths()


@pytest.fixture
def outcomes():
    return {}


@pytest.fixture
def loop(runner):
    return EncodeLoop(runner, 1024, clock=lambda: 0.0)


def submitted(loop, outcomes, name, *rows):
    job = Job([Row(array("i", row)) for row in rows], lambda outcome: outcomes.update({name: outcome}))
    loop.submit(job)
    return job


def turned(loop, times=4):
    for _ in range(times):
        loop.turn(wait=False)


def test_results_come_in_the_order_of_the_texts_and_all_at_once(loop, outcomes):
    submitted(loop, outcomes, "a", [1], [1, 2, 3], [1, 2])
    turned(loop)
    assert outcomes == {"a": [1.0, 3.0, 2.0]}
    assert (loop.counters.finished, loop.load.rows, loop.load.tokens) == (1, 3, 6)


def test_two_requests_share_a_step(loop, runner, outcomes):
    submitted(loop, outcomes, "a", [1, 2])
    submitted(loop, outcomes, "b", [1, 2])
    turned(loop)
    assert runner.steps == [[2, 2]]
    assert set(outcomes) == {"a", "b"}


def test_the_error_of_one_text_reaches_only_its_request(loop, outcomes):
    submitted(loop, outcomes, "good", [1, 2], [3, 4])
    submitted(loop, outcomes, "bad", [13, 13], [13, 13], [5, 6])
    turned(loop)
    assert outcomes["good"] == [2.0, 2.0]
    assert isinstance(outcomes["bad"], errors.RequestFailed)
    assert "the model broke" in outcomes["bad"].message
    assert (loop.counters.finished, loop.counters.failed) == (1, 1)


def test_a_request_that_is_given_up_takes_no_step_and_hears_nothing(loop, runner, outcomes):
    job = submitted(loop, outcomes, "gone", [1])
    loop.abort(job)
    turned(loop)
    assert (runner.steps, outcomes, loop.counters.aborted) == ([], {}, 1)
    loop.abort(job)
    turned(loop)
    assert loop.counters.aborted == 1


def test_steps_shrink_where_they_take_long_and_grow_where_they_do_not(runner, outcomes):
    now = [0.0]
    seconds_per_step = [10.0]

    def clock():
        now[0] += seconds_per_step[0] / 2
        return now[0]

    loop = EncodeLoop(runner, 1024, clock)
    submitted(loop, outcomes, "slow", *[[1] * 64] * 64)
    turned(loop, 10)
    assert runner.steps[0] == [64] * 16
    assert len(runner.steps[-1]) * 64 == MIN_STEP_TOKENS
    seconds_per_step[0] = 0.001
    turned(loop, 10)
    submitted(loop, outcomes, "fast", *[[1] * 64] * 64)
    turned(loop, 10)
    assert [64] * 16 in runner.steps[-8:]


def test_a_loop_that_stops_turns_away_who_waits_and_who_comes_later(runner, outcomes):
    loop = EncodeLoop(runner, 1024)
    loop.start()
    submitted(loop, outcomes, "done", [1])
    assert until(lambda: "done" in outcomes)
    loop.stop()
    submitted(loop, outcomes, "late", [1])
    assert not loop.is_alive
    assert isinstance(outcomes["late"], errors.Unavailable)
