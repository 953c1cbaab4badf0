"""Tokens to text: pieces join to the whole, characters and stop strings are never cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelengine_runtime.text import AnswerText, Detokenizer, StopStrings


def decode_bytes(tokens):
    return bytes(tokens).decode("utf-8", errors="replace")


def show(stops, tokens):
    """What an answer of these byte tokens shows, in pieces, and whether a stop string ended it."""
    text = AnswerText(decode_bytes, stops)
    pieces = []
    for token in tokens:
        piece, stopped = text.push(token)
        pieces.append(piece)
        if stopped:
            return pieces, True
    return [*pieces, text.finish()], False


@given(st.text())
def test_pieces_joined_are_the_whole_text(text):
    pieces, _ = show((), text.encode())
    assert "".join(pieces) == text


@given(st.text(alphabet="aé中😀", min_size=1))
def test_no_piece_has_half_a_character(text):
    pieces, _ = show((), text.encode())
    assert "\ufffd" not in "".join(pieces)


@given(st.text(alphabet="aé中😀", min_size=2), st.data())
def test_a_token_may_end_one_character_and_begin_the_next(text, data):
    raw = text.encode()
    cuts = sorted(data.draw(st.sets(st.integers(1, len(raw) - 1))))
    tokens = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    detokenizer = Detokenizer(lambda tokens: b"".join(tokens).decode(errors="replace"))
    assert "".join([*map(detokenizer.push, tokens), detokenizer.finish()]) == text


def test_a_character_of_three_tokens_comes_with_its_last_token():
    detokenizer = Detokenizer(decode_bytes)
    assert [detokenizer.push(token) for token in "中".encode()] == ["", "", "中"]


def test_an_answer_that_ends_inside_a_character_drops_it():
    pieces, _ = show((), "ok中".encode()[:-1])
    assert "".join(pieces) == "ok"


def test_bytes_that_never_become_a_character_do_not_hold_the_text_up_for_ever():
    detokenizer = Detokenizer(decode_bytes)
    pieces = [detokenizer.push(token) for token in b"\xff\xff\xff\xff\xffab"]
    assert "".join(pieces).endswith("ab")


def test_a_tokenizer_that_writes_the_first_token_of_a_text_differently_is_followed():
    def sentencepiece_like(tokens):
        return "".join({0: " Hello", 1: " world", 2: "!"}[token] for token in tokens).removeprefix(" ")

    detokenizer = Detokenizer(sentencepiece_like)
    assert [detokenizer.push(token) for token in (0, 1, 2)] == ["Hello", " world", "!"]


@given(st.text(alphabet="abc", max_size=30), st.lists(st.text(alphabet="abc", min_size=1, max_size=4), max_size=3))
def test_text_ends_before_the_first_stop_string_however_it_is_cut(text, stops):
    found = [at for stop in stops if (at := text.find(stop)) >= 0]
    pieces, stopped = show(stops, text.encode())
    shown = "".join(pieces)
    assert stopped == bool(found)
    if stopped:
        assert not any(stop in shown for stop in stops)
        assert text.startswith(shown)
    else:
        assert shown == text


def test_text_that_may_become_a_stop_string_is_held_back_and_then_shown():
    stops = StopStrings(["END"])
    assert stops.push("the E") == ("the ", False)
    assert stops.push("N") == ("", False)
    assert stops.push("T") == ("ENT", False)


@pytest.mark.parametrize("held", ["E", "EN"])
def test_held_text_is_shown_when_the_answer_ends_otherwise(held):
    stops = StopStrings(["END"])
    stops.push(held)
    assert stops.finish() == held
