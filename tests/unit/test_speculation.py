"""What an answer is guessed to go on with, and which guesses count."""

import pytest

from fake_paged_runner import Company
from modelengine_runtime.scheduler import Limits
from modelengine_runtime.speculation import FIRST_LENGTH, LONGEST, Lookup, verified


def lookup(*tokens):
    made = Lookup()
    made.extend(tokens)
    return made


def test_what_followed_the_same_three_tokens_is_guessed():
    assert lookup(1, 2, 3, 4, 5, 6, 1, 2, 3).guess(9) == [4, 5, 6][:FIRST_LENGTH]


def test_what_followed_them_last_counts():
    assert lookup(1, 2, 3, 4, 0, 1, 2, 3, 5, 0, 1, 2, 3).guess(1) == [5]


@pytest.mark.parametrize("tokens", [(), (1,), (1, 2, 3), (1, 2, 3, 4, 0, 2, 3)])
def test_without_the_same_three_tokens_before_there_is_no_guess(tokens):
    assert lookup(*tokens).guess(9) == []


def test_guesses_grow_while_they_are_right_and_shrink_to_what_was_right():
    made = lookup(*range(20), 0, 1, 2)
    lengths = []
    for right in (1, 1, 1, 1, 1, 1, 1, 1, 0, 1):
        guess = made.guess(99)
        lengths.append(len(guess))
        made.learn(len(guess), len(guess) * right)
    assert lengths == [2, 3, 4, 5, 6, 7, LONGEST, LONGEST, LONGEST, 1]
    assert len(made.guess(99)) == 2


@pytest.mark.parametrize(
    ("drafts", "sampled", "expected"),
    [
        ([], [7], [7]),
        ([7], [7, 8], [7, 8]),
        ([6], [7, 8], [7]),
        ([7, 6, 9], [7, 8, 9, 1], [7, 8]),
        ([7, 8, 9], [7, 8, 9, 1], [7, 8, 9, 1]),
        ([], [], []),
    ],
)
def test_tokens_count_up_to_the_first_that_was_not_guessed(drafts, sampled, expected):
    assert [*verified(drafts, sampled)] == expected


def rows(company):
    return [sum(len(chunk.token_ids) + len(chunk.drafts) for chunk in step) for step in company.runner.chunks]


def test_guesses_fill_a_step_and_no_more_and_none_stand_beside_a_prompt():
    company = Company(Limits(8, 8, 64, kv_blocks=200, draft_rows=6))
    for i in range(2):
        company.arrive([i + 1] * 8, limit=200)
    for _ in range(30):
        company.turn()
    assert max(rows(company)[-20:]) == 6
    company.arrive([5] * 300, limit=20)
    while company.requests[-1].pending > 1:
        company.turn()
        assert not any(chunk.drafts for chunk in company.runner.chunks[-1])
    for i in range(6):
        company.arrive([i + 10] * 3, limit=200)
    company.turn()
    company.turn()
    # As many answers as rows, or more: none is left.
    assert len(company.runner.chunks[-1]) >= 6
    assert not any(chunk.drafts for chunk in company.runner.chunks[-1])
    company.run()
    load = company.scheduler.load
    assert 0 < load.accepted_tokens < load.draft_tokens


def test_guesses_save_steps():
    steps = []
    for draft_rows in (0, 8):
        company = Company(Limits(1, 1, 64, kv_blocks=200, draft_rows=draft_rows))
        company.arrive([1, 2, 3], limit=400)
        company.run()
        steps.append(len(company.runner.steps))
    assert steps[1] < steps[0]


def test_a_guess_never_takes_a_block_nor_goes_beyond_the_answers_limit():
    company = Company(Limits(1, 1, 64, kv_blocks=4, draft_rows=64))
    one = company.arrive([1, 2, 3] * 4, limit=30)
    company.run()
    for [chunk] in company.runner.chunks:
        last = chunk.start + len(chunk.token_ids) + len(chunk.drafts)
        assert last <= min(len(one.prompt) + one.limit - 1, len(chunk.blocks) * 16)
