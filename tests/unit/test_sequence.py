"""What a sequence may go through, what it delivers, and how an answer that broke off goes on."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelengine.chats import FinishReason, Timings
from modelengine_runtime.sampling import Likelihood, Sampling
from modelengine_runtime.sequence import ChatSequence, End, Part, Status, Usage
from modelengine_runtime.text import AnswerText

LETTERS = "abcdefghij"
END_OF_TURN = 99


def letters(tokens):
    return "".join(LETTERS[token] for token in tokens)


def sequence(prompt=3, limit=4, stops=(), decode=letters):
    return ChatSequence(
        id=0,
        prompt=list(range(prompt)),
        limit=limit,
        sampling=Sampling(),
        stop_tokens=frozenset({END_OF_TURN}),
        text=AnswerText(decode, stops),
        deliver=lambda event: None,
    )


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


def test_text_that_the_end_of_turn_sets_free_comes_without_tokens_and_they_with_the_end():
    one = sequence(stops=["cd"])
    one.move(Status.RUNNING)
    assert one.accept(2) == []
    assert one.accept(END_OF_TURN) == [Part(0, (), "c", 1), End(FinishReason.STOP, 0, (2,), 1)]


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


def test_what_is_pending_is_what_the_cache_does_not_hold():
    one = sequence(prompt=3)
    assert one.pending == 3
    one.output += [7, 8]
    one.computed = 4
    assert one.pending == 1


def decode_bytes(tokens):
    return bytes(tokens).decode("utf-8", errors="replace")


def said(one, tokens):
    """All events of the sequence that gets these tokens."""
    one.move(Status.RUNNING)
    events = []
    for token in tokens:
        events += one.accept(token)
        if one.status is Status.FINISHED:
            break
    return events


raw_answers = st.text(alphabet="abé中😀", max_size=12).map(lambda text: [*text.encode(), END_OF_TURN])
stop_strings = st.lists(st.text(alphabet="abé", min_size=1, max_size=3), max_size=2)


@settings(max_examples=500)
@given(raw_answers, st.integers(1, 30), stop_strings, st.data())
def test_an_answer_that_broke_off_after_any_part_goes_on_with_the_same_events(tokens, limit, stops, data):
    whole = said(sequence(limit=limit, stops=stops, decode=decode_bytes), tokens)
    # Whoever has a part without tokens lacks only the end, which is a stop, and does not ask for it.
    needs_rest = [i for i in range(len(whole)) if i == 0 or whole[i - 1].token_ids]
    assert {*range(len(whole))} - {*needs_rest} <= {len(whole) - 1}
    assert len(needs_rest) == len(whole) or whole[-1].reason is FinishReason.STOP
    came = data.draw(st.sampled_from(needs_rest))
    delivered = [token for part in whole[:came] for token in part.token_ids]
    again = sequence(limit=limit, stops=stops, decode=decode_bytes)
    end = again.resume(delivered)
    rest = [end] if end else said(again, tokens[len(delivered) :])
    assert rest == whole[came:]


def test_a_resumed_answer_is_taken_in_like_a_prompt_and_its_limit_counts_from_the_start():
    one = sequence(limit=4)
    assert one.resume([1, 2, 3]) is None
    assert (one.pending, one.status) == (6, Status.WAITING)
    one.move(Status.RUNNING)
    assert one.accept(4) == [Part(3, (4,), "e", 4), End(FinishReason.LENGTH, 4, (), 4)]


@pytest.mark.parametrize(
    ("tokens", "stops", "end"),
    [
        ([1, 2, 3, 4], (), End(FinishReason.LENGTH, 4, (), 4)),
        ([1, 2, 3], ["cd"], End(FinishReason.STOP, 3, (), 3)),
        ([1, 2, END_OF_TURN], (), End(FinishReason.STOP, 2, (), 2)),
        ([1, END_OF_TURN, 2, 3], (), End(FinishReason.STOP, 1, (), 1)),
    ],
)
def test_tokens_that_already_end_the_answer_give_just_its_end(tokens, stops, end):
    one = sequence(limit=4, stops=stops)
    assert one.resume(tokens) == end
    assert one.status is Status.FINISHED


class Noting:
    """A guide that only notes what it is told."""

    def __init__(self):
        self.accepted = []

    def mask(self):
        return bytearray(b"\xff" * 16)

    def accept(self, token):
        self.accepted.append(token)


def test_a_guide_hears_every_token_of_the_answer_those_that_it_is_resumed_with_too():
    one = sequence(limit=9)
    one.guide = Noting()
    one.resume([1, 2])
    one.move(Status.RUNNING)
    one.accept(3)
    one.accept(END_OF_TURN)
    assert one.guide.accepted == [1, 2, 3]


def test_likelihoods_come_with_their_tokens():
    one = sequence(limit=4, stops=["cd"])
    one.resume([5])
    one.move(Status.RUNNING)
    first, second, third = (Likelihood(-place / 10, ()) for place in range(3))
    one.likelihoods[1] = first
    assert one.accept(1) == [Part(1, (1,), "b", 2, (first,))]
    one.likelihoods[2] = second
    assert one.accept(2) == []
    one.likelihoods[3] = third
    assert one.accept(4) == [Part(2, (2, 4), "ce", 4, (second, third)), End(FinishReason.LENGTH, 4, (), 4)]
    assert one.likelihoods == {}


@pytest.mark.parametrize("asks", ["guide", "likelihoods"])
def test_nothing_is_guessed_where_each_token_has_to_be_asked_about(asks):
    def again(**more):
        one = sequence(limit=99)
        one.prompt = [1, 2, 3, 4, 5, 1, 2, 3]
        for name, value in more.items():
            setattr(one, name, value)
        return one.guess(4)

    assert again() == [4, 5]
    assert again(**{"guide": {"guide": Noting()}, "likelihoods": {"sampling": Sampling(top_logprobs=0)}}[asks]) == []


class Ticking:
    """A clock that says what it is set to."""

    now = 0.0

    def __call__(self):
        return self.now


def test_what_an_answer_takes_is_counted_from_its_coming_to_its_end():
    one = sequence(prompt=40)
    one.clock = clock = Ticking()
    one.__post_init__()
    clock.now = 2.0
    one.begin(cached=32)
    one.move(Status.WAITING)
    clock.now = 3.0
    # Preempted, and admitted again with more of it in the cache: the first time counts.
    one.begin(cached=48)
    clock.now = 5.0
    one.accept(1)
    clock.now = 9.0
    assert one.usage == Usage(32, Timings(queued_s=2.0, prompt_s=3.0, answer_s=4.0))
    one.accept(END_OF_TURN)
    clock.now = 100.0
    assert one.usage == Usage(32, Timings(queued_s=2.0, prompt_s=3.0, answer_s=4.0))


def test_no_more_of_the_prompt_is_cached_than_there_is():
    one = sequence(prompt=3)
    one.begin(cached=16)
    assert one.usage.cached_tokens == 3
