"""How many prompt tokens a step may take while answers run, from how long steps have taken. Pure; the loop owns one.

A step with a piece of a prompt in it is longer than an ordinary one, which only carries answers on, and everyone who
reads an answer waits for it. The aim is a step twice as long as an ordinary one; what is measured is never exact, and
a prompt's last piece costs more than its first, so the promise to the reader is three. Where more wait for their first
token than read, as when many come at once, the step is longer by that much: a reader's wait is theirs too.

Ordinary steps grow with the texts of the answers in them. So while a long prompt is taken in one is made now and then:
else what they cost more would be taken for the prompt's cost, which then gets ever less of longer steps.
"""

from __future__ import annotations

# In ordinary steps.
AIM = 2.0
# The budget comes in these, and is never smaller.
GRAIN = 4
# After so many steps with pieces of prompts in them comes an ordinary one.
LOOK_AFTER = 12
# Before anything is measured.
FIRST_BUDGET = 64
# One step may be slow for reasons of the machine's, so it counts as at most twice what was expected, and moves the
# expectation by a part of that. Nothing makes a step too fast, so what is faster is believed further.
SLOWEST, FASTEST = 2.0, 0.25
# Ordinary steps become longer by little at a time. One that is long by chance would allow many long ones.
SLOWEST_ORDINARY = 1.25
SMOOTHING = 0.4
# The share of a step's time below which a piece of a prompt can't be told from chance.
NOISE = 0.1
SMALLEST_S = 1e-9


class Pace:
    """Keeps the smoothed seconds of an ordinary step, by the number of answers in it, and of one prompt token."""

    def __init__(self, step_tokens: int) -> None:
        self._step_tokens = step_tokens
        # By the bits of the number of answers (2-3, 4-7, 8-15): steps with about as many take about as long.
        self._ordinary_s: dict[int, float] = {}
        self._token_s: float | None = None
        self._since_ordinary = 0

    def took(self, decodes: int, prompt_tokens: int, seconds: float) -> None:
        """One step took so long, with so many answers and so many tokens of prompts in it."""
        seconds = max(seconds, SMALLEST_S)
        ordinary_s = self._ordinary(decodes)
        self._since_ordinary = self._since_ordinary + 1 if prompt_tokens else 0
        if not prompt_tokens:
            self._learn_ordinary(decodes, seconds)
        elif ordinary_s is None:
            # As if an answer's token cost no more than a prompt's: too little is left for the ordinary step, for now.
            self._learn_token(decodes + prompt_tokens, seconds, seconds)
        else:
            self._learn_token(prompt_tokens, seconds - ordinary_s, seconds)
            if decodes and seconds < ordinary_s:
                self._learn_ordinary(decodes, seconds)

    def prompt_budget(self, decodes: int, prompts: int = 1) -> int:
        """How many tokens of so many prompts the next step may take beside so many answers; now and then none."""
        if decodes and self._since_ordinary >= LOOK_AFTER:
            return 0
        ordinary_s = self._ordinary(decodes)
        if ordinary_s is None or self._token_s is None:
            tokens = float(FIRST_BUDGET)
        else:
            tokens = (AIM - 1) * ordinary_s / self._token_s
        tokens *= max(1.0, prompts / max(1, decodes))
        most = self._step_tokens // GRAIN * GRAIN or self._step_tokens
        return min(max(int(tokens) // GRAIN * GRAIN, GRAIN), most)

    def _ordinary(self, decodes: int) -> float | None:
        """The seconds of a step with so many answers, rather too little than too much; None where no step tells.

        A prompt that runs alone costs at least a step with one answer too.
        """
        size = max(1, decodes).bit_length()
        smaller = [known for known in self._ordinary_s if known <= size]
        if smaller:
            # Each answer more costs about what a token of a prompt does.
            more = max(0, decodes - (1 << max(smaller)) + 1)
            return self._ordinary_s[max(smaller)] + more * (self._token_s or 0.0)
        if not self._ordinary_s:
            return None
        larger = min(self._ordinary_s)
        return self._ordinary_s[larger] * 0.5 ** (larger - size)

    def _learn_ordinary(self, decodes: int, seconds: float) -> None:
        size = decodes.bit_length()
        self._ordinary_s[size] = _toward(self._ordinary_s.get(size), seconds, SLOWEST_ORDINARY)

    def _learn_token(self, tokens: int, part_s: float, seconds: float) -> None:
        """So many tokens were this part of a step of so many seconds."""
        part_s = max(part_s, NOISE * seconds)
        self._token_s = _toward(self._token_s, part_s / tokens)


def _toward(expected: float | None, seen: float, slowest: float = SLOWEST) -> float:
    if expected is None:
        return seen
    ratio = min(max(seen / expected, FASTEST), slowest)
    return float(expected * ratio**SMOOTHING)
