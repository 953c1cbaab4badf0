"""Answers of `/v1/completions`: a whole one, and the events of a streamed one, which have the same form. Pure."""

from __future__ import annotations

import codecs
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from modelengine_api.openai import parts
from modelengine_api.openai.parts import DONE, Part


class Likelihoods:
    """How likely the tokens of one choice were, as lists beside each other; `offset` counts characters of its text."""

    def __init__(self, offset: int) -> None:
        self._offset = offset
        # A token may end inside a character, which is then the next one's.
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def of(self, part: Part) -> dict[str, Any] | None:
        """Those of the tokens of the part's text; None where it doesn't say."""
        tokens = parts.of_content(part)
        if tokens is None:
            return None
        return {
            "tokens": [token["token"] for token in tokens],
            "token_logprobs": [parts.least(token["logprob"]) for token in tokens],
            "top_logprobs": [{each["token"]: parts.least(each["logprob"]) for each in _top(token)} for token in tokens],
            "text_offset": [self._next(token) for token in tokens],
        }

    def _next(self, token: Mapping[str, Any]) -> int:
        here = self._offset
        spelt = token.get("bytes")
        raw = token["token"].encode() if spelt is None else bytes(spelt)
        self._offset += len(self._decoder.decode(raw))
        return here


def _top(token: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The likeliest, and the one that was taken, which is always among them."""
    return [*(token.get("top") or ()), token]


def whole(
    answers: Sequence[Part], model: str, created: int, echoes: Sequence[str], choices_per_prompt: int
) -> dict[str, Any]:
    """The Completion of these native answers, one for each choice. `created` is in seconds since 1970."""
    return {
        "id": parts.new_id("cmpl-"),
        "object": "text_completion",
        "created": created,
        "model": model,
        "choices": [_choice(i, answer, echo) for i, (answer, echo) in enumerate(zip(answers, echoes, strict=True))],
        "usage": _usage(answers, choices_per_prompt),
    }


def _choice(index: int, answer: Part, echo: str) -> dict[str, Any]:
    choice = {
        "index": index,
        "text": echo + (answer.get("content") or ""),
        "logprobs": Likelihoods(len(echo)).of(answer),
        "finish_reason": answer["finish_reason"],
    }
    thought = answer.get("reasoning_content")
    return {**choice, "reasoning_content": thought} if thought else choice


def _usage(answers: Sequence[Part], choices_per_prompt: int) -> dict[str, Any]:
    """What the answers to all prompts cost; each prompt counts once."""
    of_prompts = [parts.usage(answers[i : i + choices_per_prompt]) for i in range(0, len(answers), choices_per_prompt)]
    counts = {
        key: sum(usage[key] for usage in of_prompts) for key in ("prompt_tokens", "completion_tokens", "total_tokens")
    }
    cached = sum(usage["prompt_tokens_details"]["cached_tokens"] for usage in of_prompts)
    return {**counts, "prompt_tokens_details": {"cached_tokens": cached}}


@dataclass(slots=True)
class _Choice:
    echo: str
    likelihoods: Likelihoods
    last: Part | None = None


@dataclass(slots=True)
class CompletionStream:
    """The events of one streamed answer with all its choices; `feed` takes the parts of one of them."""

    model: str
    created: int
    echoes: Sequence[str]
    choices_per_prompt: int
    wants_usage: bool
    _head: bytes = field(init=False)
    _choices: list[_Choice] = field(init=False)

    def __post_init__(self) -> None:
        head = {"id": parts.new_id("cmpl-"), "object": "text_completion", "created": self.created, "model": self.model}
        self._head = b"data: " + orjson.dumps(head)[:-1] + b',"choices":['
        self._choices = [_Choice(echo, Likelihoods(len(echo))) for echo in self.echoes]

    def feed(self, choice: int, said: Sequence[Part]) -> bytes:
        """The events for these parts of one choice."""
        return b"".join([self._event(choice, part) for part in said])

    @property
    def is_complete(self) -> bool:
        return all(choice.last is not None for choice in self._choices)

    def end(self) -> bytes:
        """What follows when every choice is through."""
        if not self.wants_usage:
            return DONE
        usage = _usage([choice.last for choice in self._choices if choice.last is not None], self.choices_per_prompt)
        return self._head + b'],"usage":' + orjson.dumps(usage) + b"}\n\n" + DONE

    def _event(self, index: int, part: Part) -> bytes:
        choice = self._choices[index]
        text, choice.echo = choice.echo + (part.get("content") or ""), ""
        body = {
            "index": index,
            "text": text,
            "logprobs": choice.likelihoods.of(part),
            "finish_reason": part.get("finish_reason"),
        }
        if thought := part.get("reasoning_content"):
            body["reasoning_content"] = thought
        if part.get("done"):
            choice.last = part
        return self._head + orjson.dumps(body) + (b'],"usage":null}\n\n' if self.wants_usage else b"]}\n\n")
