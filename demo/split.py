"""What training may see and what is kept back for evaluation.

A value (a sum, a name, a range) is held out by a checksum of its text, so the split needs no list and cannot drift;
templates are held out by name, in the `held_out` half of `Phrases`.
"""

import zlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import Enum
from random import Random


class Split(Enum):
    """Which half a conversation is made for. Evaluation may hold out the value, the template, or both."""

    TRAIN = "train"
    HELD_OUT = "held_out"


class Language(Enum):
    """The language of a conversation."""

    EN = "en"
    ZH = "zh"


@dataclass(frozen=True)
class Phrases:
    """Templates of one kind in one language."""

    train: tuple[str, ...]
    held_out: tuple[str, ...]

    def pick(self, rng: Random, split: Split) -> str:
        return rng.choice(self.train if split is Split.TRAIN else self.held_out)


HELD_OUT_SHARE = 10


def is_held_out(value: str) -> bool:
    """One value in ten is never trained on."""
    return zlib.crc32(value.encode()) % HELD_OUT_SHARE == 0


def draw(make: Callable[[], str], split: Split, listed: Collection[str] = ()) -> str:
    """Draws values until one belongs to the half that is asked for. A listed value is too common to be held out."""
    while True:
        value = make()
        if (is_held_out(value) and value not in listed) == (split is Split.HELD_OUT):
            return value
