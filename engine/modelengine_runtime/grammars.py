"""Grammars that an answer must follow, compiled beside the steps: a `sampling.Guide` for each request that has one.

llguidance does the work. A grammar comes from a stranger, so it is compiled in a thread of its own, with bounds: its
size (`modelengine_api.chat_checks`), what llguidance may spend on it, a deadline, and a stack deep enough for all that
fits in that size, because llguidance descends into rules that name each other and would end the process.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from llguidance import LLMatcher, LLParserLimits

from modelengine import errors
from modelengine.chats import ResponseFormat
from modelengine_runtime.sampling import Guide
from modelengine_runtime.tool_grammar import JSON_STYLE
from modelengine_runtime.vocabulary import Vocabulary

log = logging.getLogger(__name__)

DEADLINE_S = 10.0
# In a row. More is no number that anybody can read.
MOST_DIGITS = 24
STACK_BYTES = 256 * 1024 * 1024
# Compiled grammars that are kept. An application asks for few, again and again.
KEPT = 64
# Strings, regular expressions and comments of a Lark grammar.
LARK_TEXT = re.compile(r'"(?:\\.|[^"\\])*"|//[^\n]*|/(?:\\.|[^/\\])+/|#[^\n]*')
# Of what llguidance says.
MAX_SAID = 400


@dataclass(frozen=True, slots=True)
class Grammar:
    """`text` is in llguidance's own form, `where` the field of the request that it came from."""

    text: str
    where: str
    is_json: bool = False


class GrammarGuide:
    """Follows one answer through a grammar. The tokens that end an answer may come where the grammar may end."""

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher

    def mask(self) -> bytearray:
        mask = bytearray(self._matcher.compute_bitmask())
        if self._matcher.is_error():
            raise ValueError(f"the grammar can't be followed here: {_said(self._matcher)}")
        return mask

    def accept(self, token: int) -> None:
        """Raises ValueError for a token that the grammar does not allow."""
        if not self._matcher.consume_token(token):
            raise ValueError(f"token {token} is not what the grammar allows")


class JsonGuide(GrammarGuide):
    """One whose answer is JSON. A number comes to an end: no schema can say that, and a small model may go on."""

    def __init__(self, matcher: LLMatcher, vocabulary: Vocabulary) -> None:
        super().__init__(matcher)
        self._vocabulary = vocabulary
        self._is_in_text = False
        self._is_escaped = False
        self._digits = 0

    def mask(self) -> bytearray:
        mask = super().mask()
        if self._digits < MOST_DIGITS:
            return mask
        others = int.from_bytes(mask, "little") & ~self._vocabulary.digits()
        return bytearray(others.to_bytes(len(mask), "little")) if others else mask

    def accept(self, token: int) -> None:
        super().accept(token)
        for byte in self._vocabulary.spell(token)[1]:
            if self._is_escaped:
                self._is_escaped = False
            elif byte == ord('"'):
                self._is_in_text = not self._is_in_text
            elif byte == ord("\\"):
                self._is_escaped = self._is_in_text
            is_digit = not self._is_in_text and ord("0") <= byte <= ord("9")
            self._digits = self._digits + 1 if is_digit else 0


class Compiling:
    """A grammar that is compiled, or waits for its turn."""

    future: Future[LLMatcher]

    def __init__(self) -> None:
        self._began_at: float | None = None

    def run(self, work: Callable[[], LLMatcher]) -> LLMatcher:
        """On the compiler's thread."""
        self._began_at = time.monotonic()
        return work()

    async def matcher(self, where: str) -> LLMatcher:
        """Raises Busy where others keep the compiler, and InvalidRequest for what itself takes too long, or is none."""
        waited = asyncio.wrap_future(self.future)
        # Others may wait for it too, so it is not given up with this one; then its failure is nobody's to hear.
        waited.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.wait([waited], timeout=DEADLINE_S)
        if waited.done() and not waited.cancelled():
            return waited.result()
        self.future.cancel()
        if self._began_at is not None and time.monotonic() - self._began_at >= DEADLINE_S:
            raise _refused(where, f"takes longer than {DEADLINE_S:g} s to compile")
        raise errors.Busy("the grammars of other requests are being compiled", retry_after_s=1.0)


class Grammars:
    """Of one model. `close` it with the engine."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self._limits = LLParserLimits(verbose_errors=False)
        self._kept: OrderedDict[str, Compiling] = OrderedDict()
        self._thread = _deep_thread()

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def prepare(self, where: str) -> None:
        """Reads the vocabulary, where that is still to be done. Raises InvalidRequest, for the field that needs it,
        where llguidance can't read this kind of tokenizer."""
        if self.vocabulary.is_read:
            return
        try:
            await asyncio.wrap_future(self._thread.submit(self.vocabulary.prepare))
        except Exception as failure:  # Whatever foreign code raises over a foreign file.
            log.warning("the vocabulary can't be read: %s", failure)
            raise _refused(where, "this model's tokens can't be read") from failure

    async def guide(self, grammar: Grammar) -> Guide:
        """For one answer, after `prepare`.

        Raises InvalidRequest where it is none, or is too much; Busy where others keep the compiler.
        """
        compiling = self._compiling(grammar)
        try:
            matcher = await compiling.matcher(grammar.where)
        except errors.ModelEngineError:
            if self._kept.get(grammar.text) is compiling:
                del self._kept[grammar.text]
            raise
        copy = matcher.deep_copy()
        return JsonGuide(copy, self.vocabulary) if grammar.is_json else GrammarGuide(copy)

    def _compiling(self, grammar: Grammar) -> Compiling:
        """Whoever asks for the same as another, who has it or waits for it, gets the same."""
        compiling = self._kept.get(grammar.text)
        if compiling is None:
            compiling = self._kept[grammar.text] = Compiling()
            compiling.future = self._thread.submit(compiling.run, partial(self._compile, grammar))
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(grammar.text)
        return compiling

    def _compile(self, grammar: Grammar) -> LLMatcher:
        matcher = LLMatcher(self.vocabulary.prepare(), grammar.text, log_level=0, limits=self._limits)
        # The first mask also makes most of what later ones need.
        may_come = any(matcher.compute_bitmask())
        if matcher.is_error() or not may_come:
            said = _said(matcher) or "allows no answer at all"
            raise _refused(grammar.where, said)
        if grammar.is_json:
            self.vocabulary.digits()
        return matcher


def of_format(shape: ResponseFormat) -> Grammar:
    """What an answer in this format follows. Raises InvalidRequest."""
    where = f"options.response_format.{shape.type}"
    match shape.type:
        case "json_object":
            return Grammar(_of_schema({"type": "object"}), "options.response_format", is_json=True)
        case "json_schema":
            return Grammar(_of_schema(shape.json_schema or {}), where, is_json=True)
        case "regex":
            return Grammar(LLMatcher.grammar_from_regex(shape.regex or ""), where)
        case "choice":
            texts = " | ".join(json.dumps(text, ensure_ascii=False) for text in shape.choice or ())
            return Grammar(LLMatcher.grammar_from_lark(f"start: {texts}"), where)
        case _:
            if "<" in LARK_TEXT.sub("", shape.grammar or ""):
                raise _refused(where, "must be made of text; it names a token, as <...> does")
            return Grammar(LLMatcher.grammar_from_lark(shape.grammar or ""), where)


def of_calls(lark: str) -> Grammar:
    """What `tool_grammar` makes of tools that must be called."""
    return Grammar(LLMatcher.grammar_from_lark(lark), "tool_choice", is_json=True)


def _of_schema(schema: dict[str, Any]) -> str:
    return LLMatcher.grammar_from_json_schema(schema, overrides=JSON_STYLE)  # type: ignore[arg-type]  # these are some


def _refused(where: str, rule: str) -> errors.InvalidRequest:
    return errors.InvalidRequest(f"{where}: {rule}", details=[{"loc": where, "msg": rule}])


def _said(matcher: LLMatcher) -> str:
    """llguidance's complaint in one line."""
    return " ".join(matcher.get_error().split())[:MAX_SAID]


def _deep_thread() -> ThreadPoolExecutor:
    """One thread with a deep stack."""
    before = threading.stack_size(STACK_BYTES)
    try:
        executor = ThreadPoolExecutor(1, thread_name_prefix="grammars")
        executor.submit(int).result()
    finally:
        threading.stack_size(before)
    return executor
