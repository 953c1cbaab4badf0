"""How much of a prompt a step takes: enough to get on, and so little that who reads an answer does not notice."""

import random

import pytest

from modelengine_runtime.pace import FIRST_BUDGET, GRAIN, LOOK_AFTER, Pace


class Machine:
    """Takes so long for a step; `token_s` is for each token of a prompt, and grows by `rise` with every 1,000."""

    def __init__(self, base_s=0.02, decode_s=0.001, token_s=0.0005, rise=0.0, noise=0.0, seed=1):
        self.base_s, self.decode_s, self.token_s, self.rise, self.noise = base_s, decode_s, token_s, rise, noise
        self.chance = random.Random(seed)

    def ordinary_s(self, decodes):
        return self.base_s + self.decode_s * decodes

    def step_s(self, decodes, tokens=0, position=0):
        seconds = self.ordinary_s(decodes) + tokens * self.token_s * (1 + self.rise * position / 1000)
        return seconds * (1 + self.noise * self.chance.random())


def settled(machine, decodes=8, step_tokens=512):
    """A pace that has seen a prompt of every answer, and the answers run."""
    pace = Pace(step_tokens)
    for running in range(decodes):
        pace.took(running, 32, machine.step_s(running, 32))
        pace.took(running + 1, 0, machine.step_s(running + 1))
    for _ in range(10):
        pace.took(decodes, 0, machine.step_s(decodes))
    return pace


def gaps(pace, machine, prompt, decodes=8):
    """The steps, in ordinary ones, that a prompt beside answers makes."""
    done = 0
    while done < prompt:
        tokens = min(pace.prompt_budget(decodes), prompt - done)
        seconds = machine.step_s(decodes, tokens, done)
        pace.took(decodes, tokens, seconds)
        done += tokens
        yield seconds / machine.ordinary_s(decodes)


@pytest.mark.parametrize("token_s", [0.00001, 0.0001, 0.0005, 0.0007])
@pytest.mark.parametrize("rise", [0.0, 0.5])
@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_a_long_prompt_makes_no_gap_of_more_than_three_ordinary_steps(token_s, rise, noise):
    machine = Machine(token_s=token_s, rise=rise, noise=noise)
    assert max(gaps(settled(machine), machine, 4000)) <= 3


def test_a_prompt_gets_its_half_of_the_time():
    machine = Machine()
    steps = [*gaps(settled(machine), machine, 4000)]
    mixed = [step for step in steps if step > 1]
    assert min(mixed[-5:-1]) > 1.6
    assert len(steps) - len(mixed) == pytest.approx(len(steps) / (LOOK_AFTER + 1), abs=1)


def test_a_prompt_gets_its_half_too_while_the_answers_beside_it_become_long():
    """What reading their texts takes is not taken for the prompt's cost."""
    machine = Machine()
    pace, done, steps = settled(machine), 0, list[int]()
    while done < 4000:
        machine.base_s += 0.0001
        tokens = min(pace.prompt_budget(8), 4000 - done)
        seconds = machine.step_s(8, tokens)
        pace.took(8, tokens, seconds)
        done += tokens
        steps.append(tokens)
        assert seconds <= 3 * machine.ordinary_s(8)
    assert steps[-2] > steps[5]


def test_where_prompts_cost_next_to_nothing_a_step_is_filled():
    machine = Machine(token_s=0.00001)
    pace = settled(machine)
    for _ in range(6):
        pace.took(8, pace.prompt_budget(8), machine.step_s(8, pace.prompt_budget(8)))
    assert pace.prompt_budget(8) == 512


def test_where_more_wait_than_read_the_step_is_longer_by_that_much():
    pace = settled(Machine(token_s=0.0001), decodes=2, step_tokens=4096)
    alone = pace.prompt_budget(2)
    assert pace.prompt_budget(2, prompts=2) == alone
    assert 5 * alone <= pace.prompt_budget(2, prompts=12) <= 7 * alone


def test_a_prompt_that_is_dear_still_gets_on():
    machine = Machine(token_s=1.0)
    assert settled(machine).prompt_budget(8) == GRAIN


def test_before_anything_is_measured_the_budget_is_small():
    assert Pace(512).prompt_budget(8) == FIRST_BUDGET


@pytest.mark.parametrize(("step_tokens", "most"), [(3, 3), (5, 4), (16, 16), (42, 40), (512, 64)])
def test_the_budget_is_whole_grains_and_never_more_than_a_step(step_tokens, most):
    assert Pace(step_tokens).prompt_budget(1) == most


def test_one_step_in_which_the_machine_slept_changes_little():
    machine = Machine()
    pace = settled(machine)
    for _ in gaps(pace, machine, 400):
        pass
    before = pace.prompt_budget(8)
    pace.took(8, before, 5.0)
    assert pace.prompt_budget(8) >= before / 2
    for _ in gaps(pace, machine, 200):
        pass
    assert pace.prompt_budget(8) >= 0.8 * before
    pace.took(8, 0, 5.0)
    assert max(gaps(pace, machine, 400)) <= 3


def test_a_pace_that_began_on_a_bad_moment_recovers():
    machine = Machine()
    pace = Pace(512)
    pace.took(0, 10, 3.0)
    pace.took(1, 0, 3.0)
    for _ in range(20):
        pace.took(1, 0, machine.step_s(1))
        pace.took(1, 16, machine.step_s(1, 16))
    assert max(gaps(pace, machine, 1000, decodes=1)) <= 3
    assert pace.prompt_budget(1) >= 16


def test_short_prompts_in_steps_that_differ_by_chance_do_not_spoil_the_pace():
    machine = Machine(noise=0.3)
    pace = settled(machine)
    for i in range(200):
        pace.took(8, 6 + i % 20, machine.step_s(8, 6 + i % 20))
        pace.took(8, 0, machine.step_s(8))
    assert max(gaps(pace, machine, 2000)) <= 3


def test_a_first_piece_that_seemed_to_cost_nothing_is_not_believed_for_long():
    machine = Machine()
    pace = Pace(4096)
    pace.took(8, 0, machine.step_s(8))
    pace.took(8, 16, machine.step_s(8) * 0.9)
    steps = [*gaps(pace, machine, 4000)]
    assert max(steps) <= 5
    assert max(steps[8:]) <= 3


def test_a_step_with_a_prompt_that_is_faster_than_an_ordinary_one_shows_that_those_are_faster_too():
    """Prompts may come without a pause; then no ordinary step is seen for long."""
    machine = Machine()
    pace = Pace(512)
    pace.took(8, 0, 10 * machine.ordinary_s(8))
    for _ in range(20):
        pace.took(8, 16, machine.step_s(8, 16))
    assert max(gaps(pace, machine, 4000)) <= 4


def test_of_answers_that_were_never_so_many_each_is_taken_to_cost_what_a_token_of_a_prompt_does():
    """What a step with so many takes is not known yet, and too small a budget does no harm."""
    few, many = Pace(512), Pace(512)
    few.took(0, 100, 0.1)
    few.took(2, 0, 0.02)
    many.took(0, 100, 0.1)
    many.took(30, 0, 0.3)
    assert (few.prompt_budget(2), few.prompt_budget(3)) == (20, 20)
    assert few.prompt_budget(30) == (20 + 30 - 3) // GRAIN * GRAIN
    assert many.prompt_budget(2) < many.prompt_budget(30)
