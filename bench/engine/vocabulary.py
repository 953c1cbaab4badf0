"""A vocabulary of as many tokens as Qwen's, in which every token is visible text and every word is one token. Pure.

With random weights any token can come. If some decoded to nothing, as they do under a tokenizer that is smaller than
the model's vocabulary, an answer's first text would come later than its first token. It is a byte-level BPE, which
every engine can read: each letter of a word has an alphabet of its own, so merges lead to one word only, one by one.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

SIZE = 151_936
BYTES = 256
# How byte-level vocabularies write a space.
SPACE = "Ġ"
ALPHABETS = ("ABCDEFGHIJ", "KLMNOPQRST", "UVWXYZabcd", "efghijklmno", "pqrstuvwxyz")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """`tokens` in the order of their ids, `merges` in the order of their ranks."""

    tokens: Sequence[str]
    merges: Sequence[tuple[str, str]]


def beginnings() -> list[tuple[str, str]]:
    """Each proper beginning of a word that is longer than a letter, in two parts: what is before its last letter."""
    return [
        ("".join(letters[:-1]), letters[-1])
        for length in range(2, len(ALPHABETS))
        for letters in product(*ALPHABETS[:length])
    ]


def words() -> list[str]:
    """As many as the vocabulary has room for, each with a space before it and without one."""
    room = (SIZE - BYTES - len(beginnings())) // 2
    # A step that has no factor in common with their number, so that words differ from their first letter on.
    everything = ["".join(letters) for letters in product(*ALPHABETS)]
    return [everything[i * 7 % len(everything)] for i in range(room)]


def make(byte_characters: Sequence[str]) -> Vocabulary:
    """`byte_characters` are the 256 that stand for a byte each."""
    whole = [(word[:-1], word[-1]) for word in words()]
    spaced = [(SPACE, word) for word in words()]
    merges = [*beginnings(), *whole, *spaced]
    return Vocabulary([*byte_characters, *(left + right for left, right in merges)], merges)


def prompt(tokens: int, seed: str) -> str:
    """Text of so many tokens, the same for the same seed. Two of different seeds share no beginning worth keeping."""
    return " ".join(random.Random(seed).choices(_WORDS, k=tokens))


_WORDS = words()
