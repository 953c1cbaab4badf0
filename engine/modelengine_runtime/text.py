"""From tokens to text as they come: never a split character, never a piece of a stop string.

The step loop pushes each token and sends on what comes back. Pure: decoding is a function that is passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

Decode = Callable[[Sequence[int]], str]

REPLACEMENT = "\ufffd"
# A UTF-8 character has at most 4 bytes and a token at least one, so what 4 tokens leave broken stays broken. A token
# that ends one character may begin the next: the count starts with each token that completes something.
LONGEST_CHARACTER = 4


class Detokenizer:
    """Decodes a growing list of tokens piece by piece; the pieces joined are what decoding all at once gives.

    Decodes from a window that starts one piece back, because some tokenizers write a token differently at the start
    of a text (the prefix-offset method of text-generation servers).
    """

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._tokens: list[int] = []
        self._window = 0
        self._read = 0
        self._complete = 0
        self._tokens_since = 0

    def push(self, token: int) -> str:
        """The text that is complete now; empty while a character is unfinished."""
        self._tokens.append(token)
        return self._take(final=False)

    def finish(self) -> str:
        """What is left at the end; a character that was cut off in the middle is dropped."""
        return self._take(final=True).rstrip(REPLACEMENT)

    def _take(self, final: bool) -> str:
        before = self._decode(self._tokens[self._window : self._read])
        after = self._decode(self._tokens[self._window :])
        complete = max(len(after.rstrip(REPLACEMENT)), len(before))
        self._tokens_since = 1 if complete > max(self._complete, len(before)) else self._tokens_since + 1
        self._complete = complete
        unfinished = after.endswith(REPLACEMENT) and self._tokens_since < LONGEST_CHARACTER
        if len(after) <= len(before) or (unfinished and not final):
            return ""
        self._window, self._read = self._read, len(self._tokens)
        self._complete = self._tokens_since = 0
        return after[len(before) :]


class StopStrings:
    """Holds text back while it may still become a stop string, and cuts the text at the first one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""

    def push(self, text: str) -> tuple[str, bool]:
        """The text that may be shown now, and whether a stop string has ended the answer."""
        self._held += text
        found = [at for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            shown, self._held = self._held[: min(found)], ""
            return shown, True
        keep = self._undecided()
        shown = self._held[: len(self._held) - keep]
        self._held = self._held[len(self._held) - keep :]
        return shown, False

    def finish(self) -> str:
        """What was held back; the answer ended otherwise."""
        shown, self._held = self._held, ""
        return shown

    def _undecided(self) -> int:
        """The length of the longest end of the text that begins a stop string."""
        longest = min(len(self._held), max((len(stop) - 1 for stop in self._stops), default=0))
        for size in range(longest, 0, -1):
            end = self._held[-size:]
            if any(stop.startswith(end) for stop in self._stops):
                return size
        return 0


class AnswerText:
    """The text of one answer: tokens in, showable text out."""

    def __init__(self, decode: Decode, stops: Sequence[str] = ()) -> None:
        self._detokenizer = Detokenizer(decode)
        self._stops = StopStrings(stops)

    def push(self, token: int) -> tuple[str, bool]:
        """The text to show now, and whether a stop string has ended the answer."""
        return self._stops.push(self._detokenizer.push(token))

    def finish(self) -> str:
        """The rest, when the answer ended for another reason than a stop string."""
        shown, stopped = self._stops.push(self._detokenizer.finish())
        return shown if stopped else shown + self._stops.finish()
