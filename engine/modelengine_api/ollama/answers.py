"""A native answer as Ollama writes it: a line for each line of a stream, or one whole answer. Pure; it is given clocks.

Chat puts what is said into a message, generate into `response`; all else is the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import orjson

from modelengine import errors, wire
from modelengine_api.ollama.timestamps import NS, Stamps

Kind = Literal["chat", "generate"]


class Answer:
    """One answer of `model`, the name as the client wrote it. Make it when the question comes: its time runs from then.

    A native part becomes one line. An error among the lines is raised, as the class that it was.
    """

    def __init__(
        self,
        kind: Kind,
        model: str,
        *,
        clock_ns: Callable[[], int] = time.perf_counter_ns,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._kind = kind
        self._model = model
        self._clock_ns = clock_ns
        self._wall_ns = wall_ns
        self._stamps = Stamps()
        self._started_ns = clock_ns()
        self._first_ns: int | None = None
        self._calls = 0
        self.is_done = False

    def line(self, native: bytes) -> bytes:
        """One line of the native stream as one line of Ollama's; empty where the part says nothing."""
        part = _part(native)
        if self._first_ns is None:
            self._first_ns = self._clock_ns()
        if part["done"]:
            self.is_done = True
            return orjson.dumps(self.whole(part), option=orjson.OPT_APPEND_NEWLINE)
        if not (part["content"] or part.get("reasoning_content") or part.get("tool_calls") or part.get("logprobs")):
            return b""
        line = self._said(part)
        line["done"] = False
        return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)

    def whole(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        """A whole native answer, or the last part of one, as Ollama's."""
        return {**self._said(answer), **self._ending(answer)}

    def without_words(self, reason: Literal["load", "unload"]) -> dict[str, Any]:
        """What is answered to a call that asks nothing."""
        return {**self._said({}), "done": True, "done_reason": reason}

    def _said(self, part: Mapping[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = {"model": self._model, "created_at": self._stamps.stamp(self._wall_ns())}
        content = part.get("content") or ""
        if self._kind == "chat":
            said: dict[str, Any] = {"role": "assistant", "content": content}
            answer["message"] = said
        else:
            said = answer
            said["response"] = content
        if thoughts := part.get("reasoning_content"):
            said["thinking"] = thoughts
        if calls := part.get("tool_calls"):
            said["tool_calls"] = [_tool_call(self._calls + i, call) for i, call in enumerate(calls)]
            self._calls += len(calls)
        if logprobs := part.get("logprobs"):
            answer["logprobs"] = [_logprob(item) for item in logprobs]
        return answer

    def _ending(self, last: Mapping[str, Any]) -> dict[str, Any]:
        ended_ns = self._clock_ns()
        return {
            "done": True,
            "done_reason": "length" if last["finish_reason"] == "length" else "stop",
            "total_duration": ended_ns - self._started_ns,
            **self._durations(last.get("timings"), ended_ns),
            "prompt_eval_count": last["prompt_length"],
            "eval_count": last["response_length"],
        }

    def _durations(self, timings: Mapping[str, float] | None, ended_ns: int) -> dict[str, int]:
        """In nanoseconds, each at least 1 where people divide by it. The wait in the queue is what they call loading.

        Measured here where the engine does not tell; an answer that came whole then is all evaluation.
        """
        if timings is not None:
            waited = round(timings["queued_s"] * NS)
            prompt, answer = round(timings["prompt_s"] * NS), round(timings["answer_s"] * NS)
        else:
            first = self._started_ns if self._first_ns is None else self._first_ns
            waited, prompt, answer = 0, first - self._started_ns, ended_ns - first
        return {
            "load_duration": waited,
            "prompt_eval_duration": max(1, prompt),
            "eval_duration": max(1, answer),
        }


def _part(native: bytes) -> Mapping[str, Any]:
    try:
        part: Mapping[str, Any] = wire.unwrap(orjson.loads(native))
    except orjson.JSONDecodeError as failure:
        raise errors.StreamBroken("a line of the engine's answer is not JSON") from failure
    return part


def _tool_call(index: int, call: Mapping[str, Any]) -> dict[str, Any]:
    function = call["function"]
    named = {"id": call["id"]} if call.get("id") else {}
    return {
        **named,
        "function": {"index": index, "name": function["name"], "arguments": _arguments(function["arguments"])},
    }


def _arguments(given: Any) -> dict[str, Any]:
    """An object, as Ollama has it. Raises RequestFailed for what is none, rather than lose what the model said."""
    try:
        arguments = orjson.loads(given) if isinstance(given, str) else given
    except orjson.JSONDecodeError:
        arguments = None
    if not isinstance(arguments, dict):
        raise errors.RequestFailed("the model called a tool with arguments that are no JSON object; ask it again")
    return arguments


def _logprob(native: Mapping[str, Any]) -> dict[str, Any]:
    top: Sequence[Mapping[str, Any]] = native.get("top") or ()
    alternatives = {"top_logprobs": [_logprob(item) for item in top]} if top else {}
    spelt = {"bytes": native["bytes"]} if native.get("bytes") is not None else {}
    return {"token": native["token"], "logprob": native["logprob"], **spelt, **alternatives}
