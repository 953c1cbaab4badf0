"""Every answer is the one that the request gets alone, whatever runs beside it, comes, goes, breaks or has to wait."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from fake_paged_runner import Company, alone
from modelengine import errors
from modelengine_kernels.layout import BLOCK_TOKENS
from modelengine_runtime.scheduler import Limits
from modelengine_runtime.sequence import Status

# Beginnings that prompts share, some of them whole blocks; the longest begins with the one before.
BEGINNINGS = ([], list(range(1, 11)), list(range(20, 36)), list(range(20, 68)))
prompts = st.builds(
    lambda beginning, rest: beginning + rest, st.sampled_from(BEGINNINGS), st.lists(st.integers(1, 3), max_size=40)
).filter(bool)


class Requests(RuleBasedStateMachine):
    @initialize(
        kv_blocks=st.integers(2, 12),
        max_running=st.integers(1, 5),
        step_tokens=st.integers(5, 40),
        has_prefix_cache=st.booleans(),
        draft_rows=st.sampled_from([0, 4, 12]),
    )
    def begin(self, kv_blocks, max_running, step_tokens, has_prefix_cache, draft_rows):
        self.company = Company(Limits(max_running, 20, step_tokens, kv_blocks, has_prefix_cache, draft_rows))

    @rule(prompt=prompts, limit=st.integers(1, 50), salt=st.sampled_from(["", "", "other"]))
    def arrive(self, prompt, limit, salt):
        self.company.arrive(prompt, limit, salt=salt)

    @rule(prompt=prompts, limit=st.integers(1, 50), data=st.data())
    def arrive_resumed(self, prompt, limit, data):
        self.company.arrive(prompt, limit, resumed=data.draw(st.integers(0, len(alone(prompt, limit)))))

    @rule(prompt=prompts)
    def arrive_poisoned(self, prompt):
        one = self.company.arrive(prompt, 5)
        self.company.runner.poisoned.add(one.id)

    @precondition(lambda self: self.company.requests)
    @rule(data=st.data())
    def leave(self, data):
        self.company.loop.abort(data.draw(st.sampled_from(self.company.requests)))

    @rule()
    def trip(self):
        self.company.runner.trips = True

    @rule(turns=st.integers(1, 12))
    def turn(self, turns):
        for _ in range(turns):
            self.company.turn()

    def teardown(self):
        if hasattr(self, "company"):
            self.company.run()


Requests.TestCase.settings = settings(max_examples=120, stateful_step_count=25)
test_whatever_happens_every_answer_is_the_one_it_would_be_alone = Requests.TestCase


@pytest.mark.parametrize("has_prefix_cache", [False, True])
def test_a_cache_far_too_small_for_all_preempts_and_every_answer_is_still_the_same(has_prefix_cache):
    company = Company(Limits(8, 40, 64, kv_blocks=9, has_prefix_cache=has_prefix_cache))
    for i in range(30):
        company.arrive([7] * 10 + [i + 1] * (i % 13), limit=100)
    company.run()
    assert company.scheduler.load.preemptions > 5
    assert all(one.status is Status.FINISHED for one in company.requests)


def test_a_preempted_answer_comes_back_cheaply_from_the_prefix_cache():
    spent = []
    for has_prefix_cache in (False, True):
        company = Company(Limits(4, 40, 64, kv_blocks=13, has_prefix_cache=has_prefix_cache))
        for i in range(4):
            company.arrive([i + 6] * 40, limit=100)
        company.run()
        assert company.scheduler.load.preemptions
        spent.append(sum(count for step in company.runner.steps for _, count in step))
    assert spent[1] < spent[0] - 2 * BLOCK_TOKENS


def test_a_prompt_that_another_began_with_is_computed_from_where_they_part():
    company = Company(Limits(4, 4, 200, kv_blocks=40, has_prefix_cache=True))
    company.arrive(BEGINNINGS[3] + [5] * 10, limit=3)
    company.run()
    company.arrive(BEGINNINGS[3] + [6] * 9, limit=3)
    company.run()
    assert [step[0][1] for step in company.runner.steps if step[0][1] > 1] == [58, 9]
    assert company.scheduler.load.hit_tokens == 48


def test_a_prompt_that_is_known_to_its_last_token_still_computes_one_block():
    company = Company(Limits(4, 4, 200, kv_blocks=40, has_prefix_cache=True))
    for _ in range(2):
        company.arrive(BEGINNINGS[3], limit=1)
        company.run()
    assert [count for step in company.runner.steps for _, count in step] == [48, 16]


@pytest.mark.parametrize(
    # All three do nine tokens of their own. Who leaves has done 40, of which two blocks are whole.
    ("leaves", "computed", "taken_over"),
    [(False, 48 + 3 * 9, 2 * 48), (True, 40 + 16 + 2 * 9, 2 * 32 + 16)],
)
def test_prompts_that_begin_alike_and_come_together_are_computed_once(leaves, computed, taken_over):
    company = Company(Limits(4, 4, 20, kv_blocks=40, has_prefix_cache=True))
    first, *_ = [company.arrive(BEGINNINGS[3] + [number] * 9, limit=3) for number in (5, 6, 7)]
    company.turn()
    company.turn()
    if leaves:
        company.loop.abort(first)
    company.run()
    assert sum(count for step in company.runner.steps for _, count in step if count > 1) == computed
    assert company.scheduler.load.hit_tokens == taken_over


def test_a_block_from_the_middle_of_a_text_is_not_taken_for_a_beginning():
    """Its tokens are the same, and what the cache keeps of them is not."""
    company = Company(Limits(4, 4, 200, kv_blocks=40, has_prefix_cache=True))
    middle = [9] * BLOCK_TOKENS
    company.arrive(BEGINNINGS[3], limit=1)
    company.run()
    company.arrive(BEGINNINGS[3] + middle, limit=1)
    company.run()
    hits = company.scheduler.load.hit_tokens
    company.arrive([*middle, 1], limit=5)
    company.run()
    assert company.scheduler.load.hit_tokens == hits


def test_another_tenant_s_prefix_is_not_found():
    company = Company(Limits(4, 4, 200, kv_blocks=40, has_prefix_cache=True))
    for salt in ("a", "b"):
        company.arrive(BEGINNINGS[3], limit=1, salt=salt)
        company.run()
    assert company.scheduler.load.hit_tokens == 0


def test_what_a_failed_request_computed_is_not_given_to_others():
    company = Company(Limits(4, 4, 20, kv_blocks=40, has_prefix_cache=True))
    one = company.arrive(BEGINNINGS[3], limit=3)
    company.turn()
    company.turn()
    company.runner.poisoned.add(one.id)
    company.turn()
    assert one.status is Status.FAILED
    company.arrive(BEGINNINGS[3], limit=3)
    company.run()
    assert company.scheduler.load.hit_tokens == 0


def test_the_runner_is_told_of_a_cache_that_is_given_up_for_another_s_sake():
    company = Company(Limits(2, 2, 64, kv_blocks=5))
    first, second = company.arrive([1] * 30, limit=40), company.arrive([2] * 20, limit=40)
    while not second.preemptions:
        company.turn()
    assert company.runner.released == [second.id]
    assert first.status is Status.RUNNING
    company.run()
    assert sorted(company.runner.released) == [first.id, second.id, second.id]


def test_the_memory_really_is_what_answers_are_made_of():
    """Else nothing here proves anything: one token in one block changed, and the answer is another."""
    company = Company(Limits(4, 4, 64, kv_blocks=8))
    one = company.arrive([1] * 20, limit=10)
    while not one.output:
        company.turn()
    company.runner.memory[one.blocks[0]][3] = 99
    with pytest.raises(AssertionError, match="says something else than alone"):
        company.run()


def test_a_request_that_the_whole_cache_could_not_hold_is_refused_at_once():
    refusals = []
    company = Company(Limits(2, 2, 64, kv_blocks=2))
    one = company.arrive([1] * 20, limit=13)
    one.deliver = refusals.append
    company.turn()
    assert isinstance(refusals[0].error, errors.InvalidRequest)
    assert "come to 33 tokens, this engine's cache holds 32" in refusals[0].error.message
