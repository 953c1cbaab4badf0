"""The soak's questions and comparisons, and the arithmetic of the gap that a prompt makes."""

from __future__ import annotations

import random

import pytest
from bench import prompt_gap, visits
from bench.processes import BenchFailed
from bench.visits import Answer, Kind, Part

ANSWER = Answer([Part((1, 2), "ab"), Part((3,), "c"), Part((), "d"), Part((), "")], "stop")


def test_the_same_seed_asks_the_same_and_every_kind_comes() -> None:
    def all_of(seed: int) -> list[visits.Visit]:
        chance = random.Random(seed)
        known = [(visits.question(chance), ANSWER) for _ in range(5)]
        return [visits.draw(chance, known) for _ in range(200)]

    assert all_of(1) == all_of(1) != all_of(2)
    assert {visit.kind for visit in all_of(1)} == set(Kind)


def test_who_resumes_has_whole_parts_and_gets_the_rest() -> None:
    chance = random.Random(1)
    drawn = [visits.draw(chance, [({"model": "demo"}, ANSWER)]) for _ in range(300)]
    resumed = {
        tuple(v.body["resume"]["token_ids"]): (v.expected.text, v.expected.token_ids)
        for v in drawn
        if v.kind is Kind.RESUMED
    }
    assert resumed == {(): ("abcd", (1, 2, 3)), (1, 2): ("cd", (3,)), (1, 2, 3): ("d", ())}


def test_what_came_until_a_client_left_is_a_beginning() -> None:
    assert ANSWER.begins_with(Answer(ANSWER.parts[:2]))
    assert ANSWER.begins_with(Answer())
    assert ANSWER.begins_with(ANSWER)
    assert not ANSWER.begins_with(Answer([Part((1, 2), "aX")]))
    assert not ANSWER.begins_with(Answer(ANSWER.parts, "length"))


def test_answers_are_compared_by_what_they_say_and_not_by_their_parts() -> None:
    whole = Answer()
    whole.take({"token_ids": [1, 2, 3], "content": "abcd", "finish_reason": "stop"})
    assert whole.says_what(ANSWER)
    for other in (Answer([Part((1, 2, 4), "abcd")], "stop"), Answer([Part((1, 2, 3), "abcd")], "length")):
        assert not other.says_what(ANSWER)


def test_gaps_are_counted_in_ordinary_steps_and_only_between_tokens_that_came_one_by_one() -> None:
    stream = prompt_gap.Stream()
    # At 4 a second token comes with another; at 8.5 the prompt is taken in, and after 12 the text is longer.
    for tokens, at in ((1, 1.0), (2, 2.0), (3, 3.0), (5, 7.0), (6, 8.0), (7, 10.5), (8, 11.5), (9, 12.75)):
        stream.came(tokens, at)
    found = prompt_gap.sample([stream], sent=8.5, answered=12.0, prompt_tokens=4000)
    assert found["ordinary step ms"] == pytest.approx(1000)
    assert found["largest gap before, steps"] == pytest.approx(1)
    assert found["largest gap meanwhile, steps"] == pytest.approx(2.5)
    assert found["in steps of afterwards"] == pytest.approx(2)
    assert found["median gap meanwhile, steps"] == pytest.approx(1.75)
    assert found["first token of it s"] == pytest.approx(3.5)


def test_streams_that_stood_still_give_no_gap_but_an_error() -> None:
    with pytest.raises(BenchFailed, match="did not run"):
        prompt_gap.sample([prompt_gap.Stream()], 0.0, 1.0, 4000)
