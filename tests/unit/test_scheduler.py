"""What runs in each step, and what a sequence may go through."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelengine import errors
from modelengine.protocol import FinishReason
from modelengine_runtime.sampling import Sampling
from modelengine_runtime.scheduler import Limits, Scheduler
from modelengine_runtime.sequence import ChatSequence, End, Part, Status
from modelengine_runtime.text import AnswerText

LETTERS = "abcdefghij"
END_OF_TURN = 99


def sequence(number=0, prompt=3, limit=4, stops=()):
    return ChatSequence(
        id=number,
        prompt=list(range(prompt)),
        limit=limit,
        sampling=Sampling(),
        stop_tokens=frozenset({END_OF_TURN}),
        text=AnswerText(lambda tokens: "".join(LETTERS[token] for token in tokens), stops),
        deliver=lambda event: None,
    )


def scheduler(max_running=8, max_waiting=8, step_tokens=16, kv_tokens=1000):
    return Scheduler(Limits(max_running, max_waiting, step_tokens, kv_tokens))


def run(scheduler, chunks, token=0):
    """What the loop does with a step's result, when every sampled token is `token`."""
    for chunk in chunks:
        chunk.sequence.computed = chunk.start + len(chunk.token_ids)
        if chunk.samples:
            chunk.sequence.accept(token)
        if chunk.sequence.status is Status.FINISHED:
            scheduler.remove(chunk.sequence)


def test_a_prompt_runs_whole_and_then_one_token_a_step():
    s = scheduler()
    s.add(sequence(prompt=3))
    [prefill] = s.plan()
    assert (list(prefill.token_ids), prefill.start, prefill.samples) == ([0, 1, 2], 0, True)
    run(s, [prefill], token=5)
    [decode] = s.plan()
    assert (list(decode.token_ids), decode.start, decode.samples) == ([5], 3, True)


def test_a_long_prompt_is_cut_to_the_step_s_budget_and_samples_only_at_its_end():
    s = scheduler(step_tokens=4)
    s.add(sequence(prompt=10))
    seen = []
    for _ in range(3):
        chunks = s.plan()
        seen += [(chunk.start, len(chunk.token_ids), chunk.samples) for chunk in chunks]
        run(s, chunks)
    assert seen == [(0, 4, False), (4, 4, False), (8, 2, True)]


def test_running_answers_get_their_token_in_every_step_beside_a_long_prompt():
    s = scheduler(step_tokens=4)
    s.add(sequence(1, prompt=2, limit=50))
    run(s, s.plan())
    s.add(sequence(2, prompt=40))
    for _ in range(5):
        chunks = s.plan()
        assert [len(chunk.token_ids) for chunk in chunks] == [1, 3]
        run(s, chunks)


def test_no_more_run_than_allowed_and_the_next_starts_when_one_ends():
    s = scheduler(max_running=2)
    sequences = [sequence(i, limit=1) for i in range(3)]
    for one in sequences:
        s.add(one)
    chunks = s.plan()
    assert [chunk.sequence.id for chunk in chunks] == [0, 1]
    run(s, chunks)
    assert [chunk.sequence.id for chunk in s.plan()] == [2]


def test_a_request_waits_until_the_cache_has_room_for_all_it_may_need():
    s = scheduler(kv_tokens=10)
    first, second = sequence(1, prompt=3, limit=4), sequence(2, prompt=3, limit=4)
    s.add(first)
    s.add(second)
    assert [chunk.sequence for chunk in s.plan()] == [first]
    first.move(Status.ABORTED)
    s.remove(first)
    assert [chunk.sequence for chunk in s.plan()] == [second]


def test_a_small_request_does_not_overtake_a_large_one_that_waits_for_room():
    s = scheduler(kv_tokens=20)
    running, large, small = (
        sequence(1, prompt=8, limit=4),
        sequence(2, prompt=8, limit=8),
        sequence(3, prompt=1, limit=1),
    )
    for one in (running, large, small):
        s.add(one)
    assert [chunk.sequence for chunk in s.plan()] == [running]
    running.move(Status.ABORTED)
    s.remove(running)
    assert [chunk.sequence for chunk in s.plan()] == [large, small]


def test_a_request_that_could_never_fit_is_refused_with_both_numbers():
    with pytest.raises(errors.InvalidRequest, match=r"come to 12 tokens.*holds 10"):
        scheduler(kv_tokens=10).add(sequence(prompt=8, limit=4))


def test_a_full_queue_is_busy_and_says_when_to_come_again():
    s = scheduler(max_running=1, max_waiting=1)
    s.add(sequence(1))
    s.add(sequence(2))
    with pytest.raises(errors.Busy) as busy:
        s.add(sequence(3))
    assert busy.value.retry_after_s


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 8)), min_size=1, max_size=12), st.integers(4, 20))
def test_everything_is_computed_once_in_order_within_the_budget_and_all_is_given_back(requests, step_tokens):
    s = scheduler(max_running=4, max_waiting=20, step_tokens=step_tokens, kv_tokens=100)
    sequences = [sequence(i, prompt=prompt, limit=limit) for i, (prompt, limit) in enumerate(requests)]
    for one in sequences:
        s.add(one)
    while chunks := s.plan():
        assert sum(len(chunk.token_ids) for chunk in chunks) <= step_tokens
        assert all(chunk.start == chunk.sequence.computed for chunk in chunks)
        run(s, chunks)
    assert all(len(one.output) == one.limit for one in sequences)
    assert s._kv_free == 100


def test_the_end_of_turn_token_ends_the_answer_and_is_not_counted():
    one = sequence()
    one.move(Status.RUNNING)
    assert one.accept(1) == [Part(0, (1,), "b", 1)]
    assert one.accept(END_OF_TURN) == [End(FinishReason.STOP, 1, (), 1)]


def test_the_last_allowed_token_ends_the_answer_by_length():
    one = sequence(limit=2)
    one.move(Status.RUNNING)
    one.accept(1)
    assert one.accept(2) == [Part(1, (2,), "c", 2), End(FinishReason.LENGTH, 2, (), 2)]


def test_a_stop_string_ends_the_answer_before_it_and_its_tokens_are_counted():
    one = sequence(limit=9, stops=["cd"])
    one.move(Status.RUNNING)
    assert one.accept(1) == [Part(0, (1,), "b", 1)]
    assert one.accept(2) == []
    assert one.accept(3) == [End(FinishReason.STOP, 1, (2, 3), 3)]


def test_a_finished_sequence_may_not_run_again():
    one = sequence()
    one.move(Status.ABORTED)
    with pytest.raises(AssertionError):
        one.move(Status.RUNNING)


def test_tokens_may_begin_in_the_prompt_and_end_in_the_answer():
    s = sequence(prompt=3)
    s.output += [7, 8, 9]
    assert [*s.tokens(0, 2)] == [0, 1]
    assert [*s.tokens(2, 3)] == [2, 7, 8]
    assert [*s.tokens(4, 1)] == [8]
