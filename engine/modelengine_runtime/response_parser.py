"""How a model marks its thoughts and its calls: its response template, as transformers reads it.

The loader makes one `ResponseTemplate` for a model. Apart from `parsing.py`, which says what the regions mean, because
this is transformers' code, bent where it would fail a request: a region that can't be parsed is given back as text.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from transformers.utils.chat_parsing import ResponseParser
from transformers.utils.chat_parsing.response_templates import load_response_template

from modelengine_runtime import parsing, tool_grammar
from modelengine_runtime.parsing import GIVEN_BACK, REASONING, TOOL_CALLS, AnswerParser

# How much of the prompt's end may belong to the answer: what a chat template writes of the assistant's turn is short.
PREFIX_TOKENS = 256
# A pattern whose first letter is known: it is no choice, and the letter always comes, after space at most.
BEGINNING = re.compile(r"(?P<space>\\s\*)?(?P<letter>\\?[^\w\s\\^$.*+?()\[\]{}|]|\w)(?![?*{])(?:\\\||[^|])*\Z")


class LenientParser(ResponseParser):  # type: ignore[misc]  # transformers is untyped
    """A ResponseParser that never fails: what was no call after all comes back as text, with its marks.

    `beginnings` find, by region, what may begin the next mark. Text without one goes past the search for marks, which
    takes several times as long as all else that happens to a token on its way out.
    """

    def __init__(
        self,
        template: Any,
        beginnings: Mapping[str | None, re.Pattern[str]],
        prefix: str,
        tools: Sequence[Mapping[str, Any]],
    ) -> None:
        self._began = 0
        self._beginnings = beginnings
        super().__init__(template, prefix=prefix, tools=list(tools))

    def feed(self, text: str) -> list[dict[str, Any]]:
        beginning = self._beginnings.get(self._current)
        if beginning is not None and self._pos == len(self._buffer) and not beginning.search(text):
            return [{"type": "region_chunk", "field": self._current, "text": text}] if text else []
        events: list[dict[str, Any]] = super().feed(text)
        return events

    def end(self) -> list[dict[str, Any]]:
        """The events of the answer's end; `finalize` would complain of fields that this answer does not have."""
        events: list[dict[str, Any]] = []
        self._process(events, eos=True)
        return events

    def _open_explicit(self, events: list[dict[str, Any]], field: Any, match: Any) -> None:
        self._began = match.start()
        super()._open_explicit(events, field, match)

    def _close_current(self, events: list[dict[str, Any]]) -> None:
        field, before = self._current, len(events)
        try:
            super()._close_current(events)
            if field == TOOL_CALLS:
                events[-1]["value"] = parsing.calls(events[-1]["value"])
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            # The mark that closes it has been read by now.
            del events[before:]
            events.append({"type": GIVEN_BACK, "text": self._buffer[self._began : self._pos]})
            self._reset_to_implicit()


class ResponseTemplate:
    """The template of one model, and what a tokenizer must do for it."""

    def __init__(self, template: Mapping[str, Any], decode: Callable[[Sequence[int]], str]) -> None:
        """`decode` writes tokens with the special ones. Raises ValueError for a template that is none."""
        self.fields: Mapping[str, Mapping[str, Any]] = template["fields"]
        self._decode = decode
        self._with_tools = _compiled(_whole(template))
        self._without_tools = _compiled(_whole(template, leave_out=TOOL_CALLS))
        self._thinks = any(name in REASONING for name in self.fields)

    @property
    def calls(self) -> Mapping[str, Any] | None:
        """How calls are marked and written; None for a model that makes none."""
        return self.fields.get(TOOL_CALLS)

    def parser(
        self, prompt: Sequence[int], tools: Sequence[Mapping[str, Any]], has_format: bool = False
    ) -> AnswerParser | None:
        """For the answer to this prompt; None where all of it is content. Without tools nothing is a call.
        `has_format`: it either is JSON, which may have marks in its texts, or begins with a call."""
        if not tools and not self._thinks:
            return None
        template, beginnings = self._with_tools if tools else self._without_tools
        prefix = self._decode(prompt[-PREFIX_TOKENS:])
        if not template.start_anchor_re.search(prefix):
            prefix = ""
        regions = LenientParser(template, beginnings, prefix, tools)
        mark = None if self.calls is None else tool_grammar.opening(self.calls)
        return AnswerParser(parsing.Either(regions, mark) if has_format and mark else regions)

    def needs(self, token: str) -> bool:
        """Whether this special token is one of the marks, and must stand in the text."""
        written = json.dumps([field for field in self.fields.values() if _opens(field)], ensure_ascii=False)
        return any(json.dumps(form, ensure_ascii=False)[1:-1] in written for form in (token, re.escape(token)))


def _whole(template: Mapping[str, Any], leave_out: str = "") -> dict[str, Any]:
    """The template such that no text is without a region. What ends the answer is not its business: a stop token is
    no text, and what only looks like one is."""
    spec = copy.deepcopy(dict(template))
    fields = {name: dict(field) for name, field in spec["fields"].items() if name != leave_out}
    for field in fields.values():
        if not _opens(field):
            field.pop("close", None)
            field.pop("close_pattern", None)
    if all(_opens(field) for field in fields.values()):
        fields["answer"] = {"content": "text"}
    return {**spec, "fields": fields}


def _compiled(spec: dict[str, Any]) -> tuple[Any, dict[str | None, re.Pattern[str]]]:
    """The template as transformers compiles it, and what may begin a mark in each region of text."""
    template = load_response_template(spec)
    opening = [mark for field in spec["fields"].values() for mark in _marks(field, "open")]
    watched = {template.implicit: opening}
    watched |= {name: _marks(field, "close") for name, field in spec["fields"].items() if name in REASONING}
    found = {name: _beginning(marks) for name, marks in watched.items()}
    return template, {name: beginning for name, beginning in found.items() if beginning is not None}


def _marks(field: Mapping[str, Any], key: str) -> list[str]:
    """As patterns."""
    literal = field.get(key, [])
    literals = [literal] if isinstance(literal, str) else literal
    pattern = field.get(f"{key}_pattern")
    return [*(re.escape(text) for text in literals), *([pattern] if pattern else [])]


def _beginning(marks: Sequence[str]) -> re.Pattern[str] | None:
    """What may begin one of these patterns; None where a look at them does not tell."""
    found = [BEGINNING.match(mark) for mark in marks]
    if not all(found):
        return None
    letters = {re.escape(match["letter"].removeprefix("\\")) for match in found if match}
    # Space before a mark belongs to it, and may be all of it that has come.
    space = r"|\s\Z" if any(match["space"] for match in found if match) else ""
    return re.compile(f"[{''.join(sorted(letters))}]{space}" if letters else r"(?!)")


def _opens(field: Mapping[str, Any]) -> bool:
    return "open" in field or "open_pattern" in field
