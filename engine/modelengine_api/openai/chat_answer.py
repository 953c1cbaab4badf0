"""Answers of `/v1/chat/completions`: a whole one, and the events of a streamed one. Pure.

A stream makes an event of each native part, thousands of times a second in a front door: what is the same in all of
them is rendered once, so that an event costs the reading of a line and the writing of its text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from modelengine_api.openai import parts
from modelengine_api.openai.parts import DONE, Part


def whole(answers: Sequence[Part], model: str, created: int, wants_logprobs: bool) -> dict[str, Any]:
    """The ChatCompletion of these native answers, one for each choice. `created` is in seconds since 1970."""
    return {
        "id": parts.new_id("chatcmpl-"),
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [_choice(i, answer, wants_logprobs) for i, answer in enumerate(answers)],
        "usage": parts.usage(answers),
    }


def _choice(index: int, answer: Part, wants_logprobs: bool) -> dict[str, Any]:
    likelihoods = {"content": parts.logprobs(answer) or [], "refusal": None} if wants_logprobs else None
    return {
        "index": index,
        "message": _message(answer),
        "logprobs": likelihoods,
        "finish_reason": answer["finish_reason"],
    }


def _message(answer: Part) -> dict[str, Any]:
    calls = parts.tool_calls(answer)
    content = answer.get("content")
    message = {"role": "assistant", "content": content or None if calls else content or "", "refusal": None}
    if thought := answer.get("reasoning_content"):
        message["reasoning_content"] = thought
    if calls:
        message["tool_calls"] = calls
    return message


class ChatStream:
    """The events of one streamed answer with all its choices; `feed` takes the parts of one of them."""

    def __init__(self, model: str, created: int, choices: int, wants_usage: bool) -> None:
        head = {"id": parts.new_id("chatcmpl-"), "object": "chat.completion.chunk", "created": created, "model": model}
        self._head = b"data: " + orjson.dumps(head)[:-1]
        self._wants_usage = wants_usage
        # Whoever asks for the usage at the end is told in each event before that it isn't there yet.
        tail = b',"usage":null}\n\n' if wants_usage else b"}\n\n"
        self._tail = b"}]" + tail
        self._unfinished = b',"logprobs":null,"finish_reason":null' + self._tail
        self._deltas = [self._head + b',"choices":[{"index":%d,"delta":{' % i for i in range(choices)]
        self._begun = [False] * choices
        self._calls = [0] * choices
        self._last: dict[int, Part] = {}

    def feed(self, choice: int, said: Sequence[Part]) -> bytes:
        """The events for these parts of one choice."""
        if len(said) == 1:
            return self._event(choice, said[0])
        return b"".join([self._event(choice, part) for part in said])

    @property
    def is_complete(self) -> bool:
        return len(self._last) == len(self._begun)

    def end(self) -> bytes:
        """What follows when every choice is through."""
        if not self._wants_usage:
            return DONE
        usage = orjson.dumps(parts.usage(list(self._last.values())))
        return self._head + b',"choices":[],"usage":' + usage + b"}\n\n" + DONE

    def _event(self, choice: int, part: Part) -> bytes:
        event = self._finish(choice, part) if part["done"] else self._delta(choice, part)
        if self._begun[choice]:
            return event
        self._begun[choice] = True
        return self._deltas[choice] + b'"role":"assistant","content":""}' + self._unfinished + event

    def _delta(self, choice: int, part: Part) -> bytes:
        if content := part["content"]:
            delta = b'"content":' + orjson.dumps(content)
        elif thought := part.get("reasoning_content"):
            delta = b'"reasoning_content":' + orjson.dumps(thought)
        elif part.get("tool_calls"):
            delta = b'"tool_calls":' + orjson.dumps(self._numbered(choice, part))
        elif parts.of_content(part):
            delta = b'"content":""'
        else:
            return b""
        if "logprobs" not in part:
            return self._deltas[choice] + delta + b"}" + self._unfinished
        return self._deltas[choice] + delta + b"}" + _logprobs(part) + b',"finish_reason":null' + self._tail

    def _finish(self, choice: int, part: Part) -> bytes:
        self._last[choice] = part
        reason = orjson.dumps(part["finish_reason"])
        return self._deltas[choice] + b"}" + _logprobs(part) + b',"finish_reason":' + reason + self._tail

    def _numbered(self, choice: int, part: Part) -> list[dict[str, Any]]:
        first = self._calls[choice]
        calls = [{"index": i, **call} for i, call in enumerate(parts.tool_calls(part), first)]
        self._calls[choice] += len(calls)
        return calls


def _logprobs(part: Part) -> bytes:
    likelihoods = parts.logprobs(part)
    # A part that has some, and all of a thought, says nothing of the content.
    if likelihoods is None or (part["logprobs"] and not likelihoods):
        return b',"logprobs":null'
    return b',"logprobs":{"refusal":null,"content":' + orjson.dumps(likelihoods) + b"}"
