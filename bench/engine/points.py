"""What is asked of every engine: so many chats at once, with prompts of so many tokens. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.engine import vocabulary

NEW_TOKENS = 64
SHORT, LONG = 32, 512


@dataclass(frozen=True, slots=True, order=True)
class Point:
    """`waves` follow each other and count as one measurement, because one short chat is over too soon for one."""

    prompt: int
    chats: int

    @property
    def waves(self) -> int:
        return 3 if self.chats == 1 and self.prompt <= SHORT else 1

    def __str__(self) -> str:
        return f"{self.chats} x p{self.prompt}"


# 32 long prompts take the slowest of them a minute and a half, and say nothing that 8 do not.
POINTS = (Point(SHORT, 1), Point(SHORT, 8), Point(SHORT, 32), Point(LONG, 1), Point(LONG, 8))


def parse(text: str) -> Point:
    """`8x512` is 8 chats with prompts of 512 tokens. Raises ValueError for what is no such pair."""
    chats, prompt = (int(word) for word in text.split("x"))
    if not (1 <= chats <= 32 and 1 <= prompt <= LONG):
        raise ValueError(f"{text}: at most 32 chats, and prompts of at most {LONG} tokens")
    return Point(prompt, chats)


def prompts(point: Point, seed: str) -> list[list[str]]:
    """Those of each wave: no two chats have the same, and every engine gets the same for the same seed."""
    return [
        [vocabulary.prompt(point.prompt, f"{seed} {point} {wave} {chat}") for chat in range(point.chats)]
        for wave in range(point.waves)
    ]


def warm_ups(points: Sequence[Point]) -> list[Point]:
    """Each number of chats once with short prompts, and one long prompt: what is made on first use is made then."""
    return [Point(SHORT, chats) for chats in sorted({p.chats for p in points})] + [
        Point(LONG, 1) for _ in range(any(p.prompt > SHORT for p in points))
    ]
