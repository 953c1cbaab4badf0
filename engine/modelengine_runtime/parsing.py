"""From the text of an answer to what it is: content, a thought, a call of a tool.

`answers.py` drives one `AnswerParser` for each answer. Where the marks are, transformers' parser finds
(`response_parser.py`); here is what its events mean to a caller. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

# What templates call the field of thoughts, and that of calls; whatever else they name is content.
REASONING = frozenset({"reasoning_content", "reasoning", "thinking"})
TOOL_CALLS = "tool_calls"
# An event of ours beside transformers': the raw text of a region that can't be parsed.
GIVEN_BACK = "given_back"


@dataclass(frozen=True, slots=True)
class Content:
    text: str


@dataclass(frozen=True, slots=True)
class Thought:
    text: str


@dataclass(frozen=True, slots=True)
class Call:
    """A whole call: `arguments` is JSON of an object, `index` its place among the answer's calls."""

    index: int
    name: str
    arguments: str


Delta = Content | Thought | Call


class Regions(Protocol):
    """Finds the regions of an answer. Events are those of transformers' ResponseParser, and GIVEN_BACK; the `value` of
    a region of calls is what `calls` makes of it."""

    initial_events: list[dict[str, Any]]

    def feed(self, text: str) -> list[dict[str, Any]]: ...

    def end(self) -> list[dict[str, Any]]: ...


class Either:
    """The Regions of an answer that has calls, or, where it does not begin with the mark of one, none at all."""

    def __init__(self, of_calls: Regions, mark: str) -> None:
        self.initial_events: list[dict[str, Any]] = []
        self._of_calls = of_calls
        self._mark = mark
        # What has come while it may still become either.
        self._held = ""
        self._calls: bool | None = None

    def feed(self, text: str) -> list[dict[str, Any]]:
        if self._calls is None:
            text = self._held + text
            if len(text) < len(self._mark) and self._mark.startswith(text):
                self._held = text
                return []
            self._calls = text.startswith(self._mark)
        return self._of_calls.feed(text) if self._calls else _plain(text)

    def end(self) -> list[dict[str, Any]]:
        return self._of_calls.end() if self._calls else _plain(self._held if self._calls is None else "")


def _plain(text: str) -> list[dict[str, Any]]:
    return [{"type": "region_chunk", "field": None, "text": text}] if text else []


class AnswerParser:
    """Text in, deltas out. The deltas joined are the same however the text is cut, and no text is lost but marks, the
    whitespace around a thought, and that in front of what follows a thought or a call."""

    def __init__(self, regions: Regions) -> None:
        self.calls = 0
        self._regions = regions
        self._is_fresh = False
        # What a thought's text ends with so far, if that is its end.
        self._space = ""
        self._deltas(regions.initial_events)

    def feed(self, text: str) -> list[Delta]:
        return self._deltas(self._regions.feed(text))

    def end(self) -> list[Delta]:
        """What was held back, because it could have become a mark or was a call in the making."""
        return self._deltas(self._regions.end())

    def _deltas(self, events: Iterable[Mapping[str, Any]]) -> list[Delta]:
        return _joined([delta for event in events for delta in self._read(event)])

    def _read(self, event: Mapping[str, Any]) -> Sequence[Delta]:
        kind, field = event["type"], event.get("field")
        if kind == GIVEN_BACK:
            self._is_fresh = False
            return [Content(event["text"])]
        if field == TOOL_CALLS:
            return self._call(event["value"]) if kind == "region_close" else []
        if field in REASONING:
            return self._think(event["text"]) if kind == "region_chunk" else self._turn()
        return self._say(event["text"]) if kind == "region_chunk" else []

    def _turn(self) -> Sequence[Delta]:
        """A thought begins, or has ended."""
        self._space, self._is_fresh = "", True
        return []

    def _say(self, text: str) -> Sequence[Delta]:
        text = self._trimmed(text)
        return [Content(text)] if text else []

    def _think(self, text: str) -> Sequence[Delta]:
        text = self._trimmed(self._space + text)
        said = text.rstrip()
        self._space = text[len(said) :]
        return [Thought(said)] if said else []

    def _trimmed(self, text: str) -> str:
        if self._is_fresh:
            text = text.lstrip()
            self._is_fresh = not text
        return text

    def _call(self, value: Sequence[tuple[str, str]]) -> Sequence[Delta]:
        made = [Call(self.calls + i, name, arguments) for i, (name, arguments) in enumerate(value)]
        self.calls += len(made)
        self._is_fresh = True
        return made


def calls(value: Any) -> list[tuple[str, str]]:
    """Names and arguments of what a template makes of one region of calls. Raises ValueError where it is none."""
    made = [_call(item) for item in (value if isinstance(value, list) else [value])]
    if not made:
        raise ValueError("no call")
    return made


def _call(value: Any) -> tuple[str, str]:
    function = value.get("function") if isinstance(value, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(name, str) or not name:
        raise ValueError("no name")
    assert isinstance(function, Mapping)
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        # Some models write JSON in a string.
        arguments = json.loads(arguments)
    if not isinstance(arguments, Mapping):
        raise ValueError("arguments are an object")
    # Half a character and a number without an end are not what others can read: ValueErrors too.
    written = json.dumps(arguments, ensure_ascii=False, allow_nan=False)
    (name + written).encode()
    return name, written


def _joined(deltas: Sequence[Delta]) -> list[Delta]:
    """Neighbours of one kind as one."""
    joined: list[Delta] = []
    for delta in deltas:
        before = joined[-1] if joined else None
        if isinstance(delta, Content) and isinstance(before, Content):
            joined[-1] = Content(before.text + delta.text)
        elif isinstance(delta, Thought) and isinstance(before, Thought):
            joined[-1] = Thought(before.text + delta.text)
        else:
            joined.append(delta)
    return joined
