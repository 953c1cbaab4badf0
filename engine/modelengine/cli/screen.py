"""What of an answer is shown while it comes, on stdout: `answer.py` tells it.

A pipe gets what was said and nothing else; a terminal also what was thought before, dim.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any, TextIO

# What is not text, except tab and newline; a carriage return is left out, for it is mostly half of a line's end.
CONTROLS = {code: "\N{REPLACEMENT CHARACTER}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n"}
CONTROLS |= {ord("\r"): ""}
DIM, PLAIN = "\x1b[2m", "\x1b[22m"


class Screen:
    def __init__(self, out: TextIO | None = None) -> None:
        self._out = sys.stdout if out is None else out
        self._is_terminal = self._out.isatty()
        self._dims = self._is_terminal and not os.environ.get("NO_COLOR")
        self._is_thinking = False
        self._needs_newline = False

    def think(self, text: str) -> None:
        """A piece of a thought. In a pipe it is left out."""
        if not self._is_terminal or not text:
            return
        if not self._is_thinking:
            self._is_thinking = True
            self._put(DIM if self._dims else "")
        self._show(text)

    def say(self, text: str) -> None:
        if text:
            self._stop_thinking()
            self._show(text)

    def call(self, call: Mapping[str, Any]) -> None:
        """A tool is called: `get_weather({"city": "Paris"})`, on a line of its own."""
        self._stop_thinking()
        self.end()
        function = call["function"]
        self._show(f"{function['name']}({function['arguments']})\n")

    def end(self) -> None:
        """What comes after it, a shell prompt or an error, begins on a line of its own."""
        if self._is_thinking:
            self._put(PLAIN if self._dims else "")
            self._is_thinking = False
        if self._needs_newline:
            self._show("\n")

    def _stop_thinking(self) -> None:
        if self._is_thinking:
            self.end()
            self._show("\n")

    def _show(self, text: str) -> None:
        # A model may say anything, but it may not move the cursor or retitle the window.
        self._put(text.translate(CONTROLS) if self._is_terminal else text)
        self._needs_newline = not text.endswith("\n")

    def _put(self, text: str) -> None:
        print(text, end="", file=self._out, flush=True)
