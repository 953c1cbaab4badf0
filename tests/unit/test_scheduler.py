"""What runs in each step, who holds the cache, and who has to wait for it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelengine import errors
from modelengine_runtime.sampling import Sampling
from modelengine_runtime.scheduler import Limits, Scheduler, share
from modelengine_runtime.sequence import ChatSequence, Status
from modelengine_runtime.text import AnswerText


def sequence(number=0, prompt=3, limit=4):
    return ChatSequence(
        id=number,
        prompt=list(range(prompt)),
        limit=limit,
        sampling=Sampling(),
        stop_tokens=frozenset(),
        text=AnswerText(lambda tokens: "x" * len(tokens)),
        deliver=lambda event: None,
    )


def scheduler(max_running=8, max_waiting=8, step_tokens=16, kv_blocks=100, has_prefix_cache=False):
    return Scheduler(Limits(max_running, max_waiting, step_tokens, kv_blocks, has_prefix_cache))


def run(scheduler, chunks, token=0):
    """What the loop does with a step's result, when every sampled token is `token`."""
    for chunk in chunks:
        scheduler.computed(chunk)
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


def test_a_request_waits_until_the_cache_has_room_for_its_prompt():
    s = scheduler(step_tokens=64, kv_blocks=3)
    first, second = sequence(1, prompt=20, limit=4), sequence(2, prompt=20, limit=4)
    s.add(first)
    s.add(second)
    assert [chunk.sequence for chunk in s.plan()] == [first]
    first.move(Status.ABORTED)
    s.remove(first)
    assert [chunk.sequence for chunk in s.plan()] == [second]


def test_a_small_request_does_not_overtake_a_large_one_that_waits_for_room():
    s = scheduler(step_tokens=64, kv_blocks=3)
    running, large, small = (
        sequence(1, prompt=20, limit=4),
        sequence(2, prompt=20, limit=8),
        sequence(3, prompt=2, limit=1),
    )
    for one in (running, large, small):
        s.add(one)
    assert [chunk.sequence for chunk in s.plan()] == [running]
    running.move(Status.ABORTED)
    s.remove(running)
    assert [chunk.sequence for chunk in s.plan()] == [large, small]


def test_a_request_that_could_never_fit_is_refused_with_both_numbers():
    with pytest.raises(errors.InvalidRequest, match=r"options.max_new_tokens: .* come to 33 tokens.*holds 32"):
        scheduler(kv_blocks=2).add(sequence(prompt=29, limit=4))
    scheduler(kv_blocks=2).add(sequence(prompt=28, limit=4))


def test_a_full_queue_is_busy_and_says_when_to_come_again():
    s = scheduler(max_running=1, max_waiting=1)
    s.add(sequence(1))
    s.add(sequence(2))
    with pytest.raises(errors.Busy) as busy:
        s.add(sequence(3))
    assert busy.value.retry_after_s


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 8)), min_size=1, max_size=12), st.integers(4, 20))
def test_everything_is_computed_once_in_order_within_the_budget_and_all_is_given_back(requests, step_tokens):
    s = scheduler(max_running=4, max_waiting=20, step_tokens=step_tokens, kv_blocks=8)
    sequences = [sequence(i, prompt=prompt, limit=limit) for i, (prompt, limit) in enumerate(requests)]
    for one in sequences:
        s.add(one)
    while chunks := s.plan():
        assert sum(len(chunk.token_ids) for chunk in chunks) <= step_tokens
        assert all(chunk.start == chunk.sequence.computed for chunk in chunks)
        run(s, chunks)
    assert all(len(one.output) == one.limit for one in sequences)
    assert s.pool.free == 8


def started(s, *sequences):
    """Adds the sequences and runs steps until all of them answer."""
    for one in sequences:
        s.add(one)
    while any(one.status is not Status.RUNNING or one.pending > 1 for one in sequences):
        run(s, s.plan())
    return sequences


def test_the_block_table_covers_every_position_of_the_step_and_grows_by_a_block_when_one_is_full():
    s = scheduler(step_tokens=64)
    s.add(sequence(prompt=31, limit=9))
    sizes = []
    while chunks := s.plan():
        sizes.append(len(chunks[0].blocks))
        run(s, chunks)
    assert sizes == [2, 2, *[3] * 7]


def test_the_newest_gives_way_when_no_block_is_left_and_loses_nothing_but_its_place():
    s = scheduler(step_tokens=64, kv_blocks=3)
    old, new = started(s, sequence(1, prompt=15, limit=30), sequence(2, prompt=14, limit=30))
    answered = list(new.output)
    while not s.preempted:
        run(s, chunks := s.plan())
    assert s.preempted == [new]
    assert [chunk.sequence for chunk in chunks] == [old]
    assert (new.status, new.blocks, new.computed) == (Status.WAITING, [], 0)
    assert new.output[: len(answered)] == answered
    assert s.load.preemptions == 1


def test_who_was_preempted_comes_before_all_who_wait_and_the_oldest_of_them_first():
    s = scheduler(max_running=3, step_tokens=64, kv_blocks=5)
    first, second, third = started(s, *(sequence(i, prompt=14, limit=60) for i in range(3)))
    s.add(sequence(9, prompt=1))
    while third.status is Status.RUNNING or second.status is Status.RUNNING:
        run(s, s.plan())
    assert [one.id for one in s.waiting] == [1, 2, 9]
    assert s.running == [first]


def test_nobody_is_admitted_in_the_step_that_preempts():
    s = scheduler(max_running=2, step_tokens=100, kv_blocks=7)
    started(s, sequence(1, prompt=47, limit=60), sequence(2, prompt=46, limit=60))
    s.add(sequence(3, prompt=2))
    while not s.preempted:
        chunks = s.plan()
        run(s, chunks)
    assert [chunk.sequence.id for chunk in chunks] == [1]
    assert (len(s.waiting), s.pool.free) == (2, 3)


def test_who_was_preempted_returns_only_when_there_is_room_to_go_on():
    s = scheduler(step_tokens=100, kv_blocks=7)
    old, short, new = started(
        s, sequence(1, prompt=47, limit=15), sequence(2, prompt=5, limit=6), sequence(3, prompt=40, limit=30)
    )
    while short.status is Status.RUNNING:
        run(s, s.plan())
    assert new.preemptions == 1
    # There is room for its text, but not for a block more.
    assert (s.pool.free, len(old.blocks)) == (3, 4)
    while old.status is Status.RUNNING:
        chunks = s.plan()
        assert [chunk.sequence for chunk in chunks] == [old]
        run(s, chunks)
    [chunk] = s.plan()
    assert (chunk.sequence, chunk.start, len(chunk.token_ids)) == (new, 0, new.length)


def test_who_needs_the_whole_cache_returns_to_it():
    s = scheduler(step_tokens=64, kv_blocks=2)
    _, new = started(s, sequence(1, prompt=10, limit=9), sequence(2, prompt=10, limit=22))
    while chunks := s.plan():
        run(s, chunks)
    assert new.status is Status.FINISHED
    assert new.preemptions == 1


def test_prompts_share_what_the_pace_leaves_while_answers_run():
    s = scheduler(step_tokens=64)
    started(s, sequence(1, prompt=2, limit=50))
    s.add(sequence(2, prompt=200))
    assert [len(chunk.token_ids) for chunk in s.plan(prompt_budget=32)] == [1, 32]


def test_the_pace_counts_only_where_somebody_reads():
    s = scheduler(step_tokens=64)
    s.add(sequence(2, prompt=200))
    assert [len(chunk.token_ids) for chunk in s.plan(prompt_budget=32)] == [64]


def test_who_waits_for_a_first_token_is_counted_as_far_as_there_are_places():
    s = scheduler(step_tokens=64, max_running=4)
    started(s, sequence(1, prompt=2, limit=50))
    for i in range(2, 4):
        s.add(sequence(i, prompt=200))
    assert (s.decodes, s.prompts) == (1, 2)
    s.plan(prompt_budget=32)
    assert (s.decodes, s.prompts) == (1, 2)
    for i in range(4, 9):
        s.add(sequence(i, prompt=200))
    assert (s.decodes, s.prompts) == (1, 3)


def test_a_long_prompt_does_not_hold_a_short_one_back():
    s = scheduler(step_tokens=64, kv_blocks=400)
    s.add(sequence(1, prompt=4000))
    run(s, s.plan())
    s.add(sequence(2, prompt=20))
    assert [(chunk.sequence.id, len(chunk.token_ids)) for chunk in s.plan()] == [(1, 44), (2, 20)]


@pytest.mark.parametrize(
    ("budget", "pending", "shares"),
    [
        (100, [], []),
        (100, [1000], [100]),
        (100, [30], [30]),
        (100, [1000, 1000], [50, 50]),
        (100, [1000, 20], [80, 20]),
        (100, [20, 1000], [20, 80]),
        (100, [1000, 40, 30, 8], [50, 12, 30, 8]),
        (1, [5, 5], [1, 0]),
        (0, [5, 5], [0, 0]),
        (-3, [5], [0]),
    ],
)
def test_the_first_prompt_gets_half_and_the_shortest_the_other_half(budget, pending, shares):
    assert share(budget, pending) == shares


@given(st.integers(0, 200), st.lists(st.integers(1, 100), min_size=1, max_size=6))
def test_nothing_of_the_budget_is_left_while_a_prompt_could_use_it(budget, pending):
    shares = share(budget, pending)
    assert sum(shares) == min(budget, sum(pending))
    assert all(0 <= got <= has for got, has in zip(shares, pending, strict=True))
    assert shares[0] >= min(pending[0], (budget + 1) // 2)


def test_what_the_prefix_cache_has_needs_no_room_twice():
    s = scheduler(step_tokens=64, kv_blocks=5, has_prefix_cache=True)
    started(s, sequence(1, prompt=50, limit=10))
    s.add(sequence(2, prompt=50, limit=10))
    [_, other] = s.plan()
    assert (other.sequence.id, other.start, len(other.token_ids)) == (2, 48, 2)
    assert s.load.blocks_used == 5


def test_the_load_says_how_full_the_engine_is():
    s = scheduler(max_running=1, step_tokens=64, kv_blocks=9, has_prefix_cache=True)
    for i in range(2):
        s.add(sequence(i, prompt=40, limit=3))
    for _ in range(3):
        run(s, s.plan())
    assert (s.load.running, s.load.waiting, s.load.blocks_used, s.load.blocks_cached) == (0, 1, 0, 2)
    s.plan()
    assert (s.load.running, s.load.waiting, s.load.blocks_used, s.load.blocks_cached) == (1, 0, 3, 0)
    assert (s.load.blocks_total, s.load.prompt_tokens, s.load.hit_tokens) == (9, 80, 32)
