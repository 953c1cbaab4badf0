"""Events of one answer as the native protocol writes them: a message per part, or one whole answer. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field
from typing import Any
from uuid import uuid4

import orjson

from modelengine import wire
from modelengine.chats import FinishReason
from modelengine_runtime.parsing import AnswerParser, Call, Content, Delta, Thought
from modelengine_runtime.sampling import Likelihood
from modelengine_runtime.sequence import End, Event, Part, Usage

# A token as text, and its bytes, which may be part of a character, and are not always known.
Spell = Callable[[int], tuple[str, bytes | None]]
# What has no logarithm: JSON knows no infinity.
LOWEST_LOGPROB = -9999.0


def _new_id() -> str:
    return f"chat-{uuid4().hex}"


@dataclass(slots=True)
class Renderer:
    """Of one answer. `prompt_length` counts the prompt's tokens; `seed` is the one in use, asked for or drawn; `usage`
    is asked at the end.

    Where there is a `parser`, it says what is content. Tokens whose text it holds back ride with the next message, and
    how likely they were rides with them; for this it needs `spell`.
    `has_one_call`: the answer ends with its first call, and then `is_done`, whatever events are still to come.
    """

    model: str
    prompt_length: int
    seed: int
    usage: Callable[[], Usage] | None = None
    parser: AnswerParser | None = None
    spell: Spell | None = None
    has_one_call: bool = False
    id: str = field(default_factory=_new_id)
    is_done: bool = False
    _tokens: list[int] = field(default_factory=list)
    _likelihoods: list[Likelihood] = field(default_factory=list)
    # What came of these tokens.
    _deltas: list[Delta] = field(default_factory=list)

    def messages(self, event: Event) -> list[dict[str, Any]]:
        """The event as ChatChunks: none, one or several."""
        if isinstance(event, End):
            return self._end(event)
        assert isinstance(event, Part)
        self._tokens += event.token_ids
        self._likelihoods += event.likelihoods
        deltas: list[Delta] = [Content(event.text)] if self.parser is None else self.parser.feed(event.text)
        if self.has_one_call:
            deltas = _up_to_first_call(deltas)
        self._deltas += deltas
        index = event.index + len(event.token_ids) - len(self._tokens)
        messages = [self._part(delta, index, event.length) for delta in deltas]
        # Whoever has tokens has all that came of them. Text that the end sets free has none, and is told again to who
        # asks to go on before it.
        if messages and event.token_ids:
            messages[-1].update(self._take_tokens())
        if self.has_one_call and deltas and isinstance(deltas[-1], Call):
            messages.append(self._last(FinishReason.TOOL_CALLS, event.index + len(event.token_ids), event.length))
        return messages

    def _end(self, end: End) -> list[dict[str, Any]]:
        deltas: list[Delta] = []
        if self.parser is not None and not (self.has_one_call and self.parser.calls):
            deltas = self.parser.end()
        if self.has_one_call:
            deltas = _up_to_first_call(deltas)
        self._deltas += deltas
        index = end.index - len(self._tokens)
        self._tokens += end.token_ids
        self._likelihoods += end.likelihoods
        called = self.parser is not None and self.parser.calls > 0
        reason = FinishReason.TOOL_CALLS if called and end.reason is FinishReason.STOP else end.reason
        return [*(self._part(delta, index, end.length) for delta in deltas), self._last(reason, index, end.length)]

    def _part(self, delta: Delta, index: int, length: int) -> dict[str, Any]:
        return {
            "model": self.model,
            "prompt_length": self.prompt_length,
            "response_length": length,
            "finish_reason": None,
            **_said(delta),
            "done": False,
            "id": self.id,
            "index": index,
            "token_ids": (),
        }

    def _last(self, reason: FinishReason, index: int, length: int) -> dict[str, Any]:
        self.is_done = True
        return {
            "model": self.model,
            "prompt_length": self.prompt_length,
            "response_length": length,
            "finish_reason": reason,
            "content": None,
            "done": True,
            "id": self.id,
            "index": index,
            **self._take_tokens(),
            "seed": self.seed,
            "prompt_tokens": self.prompt_length,
            "completion_tokens": length,
            "total_tokens": self.prompt_length + length,
            **({} if self.usage is None else _taken(self.usage())),
        }

    def _take_tokens(self) -> dict[str, Any]:
        tokens, self._tokens = self._tokens, []
        likelihoods, self._likelihoods = self._likelihoods, []
        deltas, self._deltas = self._deltas, []
        if not likelihoods or self.spell is None:
            return {"token_ids": tokens}
        spell = self.spell
        logprobs = [_logprob(spell, *of_token) for of_token in zip(tokens, likelihoods, strict=True)]
        if self.parser is not None:
            for logprob, is_content in zip(logprobs, _are_content(logprobs, deltas), strict=True):
                if not is_content:
                    logprob["is_content"] = False
        return {"token_ids": tokens, "logprobs": logprobs}


def line(message: Mapping[str, Any]) -> bytes:
    """The message as an NDJSON line of a stream."""
    return orjson.dumps(wire.ok(message)) + b"\n"


def whole(messages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The `msg` of an answer that is not streamed; the messages are all of it."""
    *parts, last = messages
    answer = {key: value for key, value in last.items() if key not in ("done", "index")}
    answer["content"] = "".join(part["content"] for part in parts)
    answer["token_ids"] = [token for message in messages for token in message["token_ids"]]
    reasoning = "".join(part.get("reasoning_content", "") for part in parts)
    if reasoning:
        answer["reasoning_content"] = reasoning
    logprobs = [logprob for message in messages for logprob in message.get("logprobs", ())]
    if logprobs:
        answer["logprobs"] = logprobs
    calls = [call for part in parts for call in part.get("tool_calls", ())]
    if calls:
        answer["tool_calls"] = calls
    return answer


def _taken(usage: Usage) -> dict[str, Any]:
    timings = {name: round(seconds, 6) for name, seconds in asdict(usage.timings).items()}
    return {"cached_tokens": usage.cached_tokens, "timings": timings}


def _logprob(spell: Spell, token: int, likelihood: Likelihood) -> dict[str, Any]:
    """A TokenLogprob as plain data."""
    top = [_spelt(spell, token, logprob) for token, logprob in likelihood.top]
    return {**_spelt(spell, token, likelihood.logprob), "top": top}


def _spelt(spell: Spell, token: int, logprob: float) -> dict[str, Any]:
    text, spelt = spell(token)
    known = None if spelt is None else list(spelt)
    return {"token": text, "token_id": token, "logprob": max(logprob, LOWEST_LOGPROB), "bytes": known}


def _are_content(spelt: Sequence[Mapping[str, Any]], deltas: Sequence[Delta]) -> list[bool]:
    """Of each token whether it stands in the content that came of them all; always so where that can't be told."""
    if any(token["bytes"] is None for token in spelt):
        return [True] * len(spelt)
    text = b"".join(bytes(token["bytes"]) for token in spelt)
    borders = [0, *itertools.accumulate(len(token["bytes"]) for token in spelt)]
    at_border = frozenset(borders)
    inside = bytearray(len(text))
    end = len(text)
    # From the end: more of what is not said, marks and the space around a thought, stands before it than behind.
    for delta in reversed(deltas):
        if isinstance(delta, Call):
            continue
        written = delta.text.encode(errors="surrogatepass")
        begin = _place(written, text[:end], at_border)
        if begin is not None:
            inside[begin : begin + len(written)] = bytes([isinstance(delta, Content)]) * len(written)
            end = begin
        elif isinstance(delta, Content):
            return [True] * len(spelt)
    return [any(inside[begin:end]) for begin, end in itertools.pairwise(borders)]


def _place(written: bytes, text: bytes, borders: Set[int]) -> int | None:
    """Where in the text this stands: rather where tokens begin and end than in the middle of a mark, rather late."""
    found = [i for i in range(len(text) - len(written) + 1) if text.startswith(written, i)]
    return max(found, key=lambda i: ((i in borders) + (i + len(written) in borders), i), default=None)


def _said(delta: Delta) -> dict[str, Any]:
    if isinstance(delta, Content):
        return {"content": delta.text}
    if isinstance(delta, Thought):
        return {"content": "", "reasoning_content": delta.text}
    function = {"name": delta.name, "arguments": delta.arguments}
    call = {"index": delta.index, "id": f"call_{uuid4().hex}", "type": "function", "function": function}
    return {"content": "", "tool_calls": [call]}


def _up_to_first_call(deltas: list[Delta]) -> list[Delta]:
    for i, delta in enumerate(deltas):
        if isinstance(delta, Call):
            return deltas[: i + 1]
    return deltas
