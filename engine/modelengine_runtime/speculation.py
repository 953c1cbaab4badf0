"""Guesses what an answer goes on with, from where the same tokens stood before: in the prompt, or in the answer itself.

Answers repeat what they are about: names, code, quotations. A guess costs next to nothing on a processor that waits for
its memory, for a few rows take no longer than one; what the model would not have said is thrown away, so a guess
changes when tokens come, and never which. The method is prompt lookup decoding (Saxena, 2023). Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

# Tokens that must have stood there before, one after the other: fewer are chance too often.
CONTEXT = 3
# Guesses begin with so many tokens, get longer while they are right and shorter when they are not.
FIRST_LENGTH, LONGEST = 2, 8


class Lookup:
    """Of one answer. `extend` it with every token of prompt and answer, in order."""

    def __init__(self) -> None:
        self._tokens: list[int] = []
        # Where the token stands that followed so many tokens when they came last.
        self._next: dict[tuple[int, ...], int] = {}
        self._length = FIRST_LENGTH

    def __len__(self) -> int:
        return len(self._tokens)

    def extend(self, tokens: Sequence[int]) -> None:
        for token in tokens:
            if len(self._tokens) >= CONTEXT:
                self._next[self._context()] = len(self._tokens)
            self._tokens.append(token)

    def guess(self, most: int) -> list[int]:
        """At most so many tokens; none where these have not stood there before."""
        at = self._next.get(self._context())
        return [] if at is None else self._tokens[at : at + min(most, self._length)]

    def learn(self, guessed: int, right: int) -> None:
        """So many tokens were guessed, and so many of them were right."""
        if right == guessed:
            self._length = min(self._length + 1, LONGEST)
        else:
            self._length = max(right, 1)

    def _context(self) -> tuple[int, ...]:
        return tuple(self._tokens[-CONTEXT:])


def verified(drafts: Sequence[int], sampled: Sequence[int]) -> Sequence[int]:
    """The tokens that are the answer's: `sampled` has one after the known tokens, and one after each of the drafts.

    A token counts for as long as everything before it is what was guessed.
    """
    right = 0
    while right < len(drafts) and sampled[right] == drafts[right]:
        right += 1
    return sampled[: right + 1]
