"""A response as OpenAI's typed events, made from the native parts of one answer. Pure.

A response is a list of items: what the model thought, what it said, and each of its calls. One is open at a time, and
opened, continued and closed by events of its own. The last event has the response as a whole, which is also what a
request hears that asked for no stream.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from modelengine import errors
from modelengine_api.openai import parts
from modelengine_api.openai.parts import Part

Status = Literal["in_progress", "completed", "incomplete", "failed"]


@dataclass(slots=True)
class TextItem:
    """An item that grows: a message, or a thought."""

    kind: Literal["message", "reasoning"]
    index: int
    id: str
    delta_head: bytes
    texts: list[str] = field(default_factory=list)
    logprobs: list[dict[str, Any]] = field(default_factory=list)

    @property
    def place(self) -> dict[str, Any]:
        return {"item_id": self.id, "output_index": self.index, "content_index": 0}

    @property
    def name(self) -> str:
        """What its events are called by."""
        return "output_text" if self.kind == "message" else "reasoning_text"

    def part(self) -> dict[str, Any]:
        text = "".join(self.texts)
        if self.kind == "reasoning":
            return {"type": "reasoning_text", "text": text}
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": self.logprobs}

    def plain(self, status: Status, *, is_empty: bool = False) -> dict[str, Any]:
        content = [] if is_empty else [self.part()]
        if self.kind == "reasoning":
            return {"type": "reasoning", "id": self.id, "summary": [], "content": content, "status": status}
        return {"type": "message", "id": self.id, "role": "assistant", "status": status, "content": content}


class ResponseStream:
    """The events of one response. `frame` is what it repeats of its request, `created` in seconds since 1970."""

    def __init__(self, frame: Mapping[str, Any], created: int, wants_logprobs: bool) -> None:
        self._frame = {"id": parts.new_id("resp_"), "object": "response", "created_at": created, **frame}
        self._wants_logprobs = wants_logprobs
        self._output: list[dict[str, Any]] = []
        self._open: TextItem | None = None
        self._sequence = 0
        self._reasoning_tokens = 0
        # The response as it stands: after the last part, the whole of it.
        self.response = self._response("in_progress")

    @property
    def is_complete(self) -> bool:
        return bool(self.response["status"] != "in_progress")

    def feed(self, choice: int, said: Sequence[Part]) -> bytes:
        """The events for these parts; there is one choice only."""
        # Not before there is a part: until then a failure is an HTTP error.
        begin = [self._state("created"), self._state("in_progress")] if said and self._sequence == 0 else []
        return b"".join([*begin, *(event for part in said for event in self._of(part))])

    def end(self) -> bytes:
        """Nothing follows the last event."""
        return b""

    def failed(self, failure: errors.ModelEngineError) -> bytes:
        """How a response ends that fails after it began; what there is of it stays in it."""
        if self._open is not None:
            self._output.append(self._open.plain("incomplete"))
        code = "rate_limit_exceeded" if failure.status == 429 else "server_error"
        self.response = self._response("failed", error={"code": code, "message": failure.message})
        return self._state("failed")

    def _of(self, part: Part) -> list[bytes]:
        if part.get("done"):
            return self._finish(part)
        if thought := part.get("reasoning_content"):
            self._reasoning_tokens += len(part.get("token_ids") or ())
            return self._grow("reasoning", thought, [])
        if calls := parts.tool_calls(part):
            return [*self._close("completed"), *(event for call in calls for event in self._call(call))]
        likely = (parts.logprobs(part) or []) if self._wants_logprobs else []
        content = part.get("content") or ""
        return self._grow("message", content, likely) if content or likely else []

    def _grow(self, kind: Literal["message", "reasoning"], text: str, likely: list[dict[str, Any]]) -> list[bytes]:
        begin = self._begin(kind) if self._open is None or self._open.kind != kind else []
        assert self._open is not None
        self._open.texts.append(text)
        self._open.logprobs += [_spelt(token) for token in likely]
        delta = self._open.delta_head + b"%d" % self._sequence + b',"delta":' + orjson.dumps(text)
        if kind == "message":
            delta += b',"logprobs":' + orjson.dumps([_unspelt(token) for token in likely])
        self._sequence += 1
        return [*begin, delta + b"}\n\n"]

    def _begin(self, kind: Literal["message", "reasoning"]) -> list[bytes]:
        closed = self._close("completed")
        index, prefix = len(self._output), "msg_" if kind == "message" else "rs_"
        self._open = item = TextItem(kind, index, parts.new_id(prefix), b"")
        name = f"response.{item.name}.delta"
        head = {"type": name, **item.place}
        item.delta_head = f"event: {name}\ndata: ".encode() + orjson.dumps(head)[:-1] + b',"sequence_number":'
        added = self._event("output_item.added", output_index=index, item=item.plain("in_progress", is_empty=True))
        return [*closed, added, self._event("content_part.added", **item.place, part=item.part())]

    def _close(self, status: Status) -> list[bytes]:
        item, self._open = self._open, None
        if item is None:
            return []
        whole = item.plain(status)
        self._output.append(whole)
        text: dict[str, Any] = {"text": "".join(item.texts)}
        if item.kind == "message":
            text["logprobs"] = [_unspelt(token) for token in item.logprobs]
        return [
            self._event(f"{item.name}.done", **item.place, **text),
            self._event("content_part.done", **item.place, part=item.part()),
            self._event("output_item.done", output_index=item.index, item=whole),
        ]

    def _call(self, call: Mapping[str, Any]) -> list[bytes]:
        index, arguments = len(self._output), call["function"]["arguments"]
        item = {
            "type": "function_call",
            "id": parts.new_id("fc_"),
            "call_id": call["id"],
            "name": call["function"]["name"],
            "arguments": arguments,
            "status": "completed",
        }
        self._output.append(item)
        begun, place = (
            {**item, "arguments": "", "status": "in_progress"},
            {"item_id": item["id"], "output_index": index},
        )
        return [
            self._event("output_item.added", output_index=index, item=begun),
            self._event("function_call_arguments.delta", **place, delta=arguments),
            self._event("function_call_arguments.done", **place, arguments=arguments),
            self._event("output_item.done", output_index=index, item=item),
        ]

    def _finish(self, part: Part) -> list[bytes]:
        is_cut = part["finish_reason"] == "length"
        status: Status = "incomplete" if is_cut else "completed"
        # An answer without a word is a message all the same.
        begun = self._begin("message") if not self._output and self._open is None else []
        if self._open is not None and self._open.kind == "message" and self._wants_logprobs:
            self._open.logprobs += [_spelt(token) for token in parts.logprobs(part) or ()]
        closed = self._close(status)
        details = {"incomplete_details": {"reason": "max_output_tokens"}} if is_cut else {}
        self.response = self._response(status, usage=self._usage(part), **details)
        return [*begun, *closed, self._state(status)]

    def _usage(self, last: Part) -> dict[str, Any]:
        usage = parts.usage([last])
        return {
            "input_tokens": usage["prompt_tokens"],
            "input_tokens_details": {**usage["prompt_tokens_details"], "cache_write_tokens": 0},
            "output_tokens": usage["completion_tokens"],
            "output_tokens_details": {"reasoning_tokens": min(self._reasoning_tokens, usage["completion_tokens"])},
            "total_tokens": usage["total_tokens"],
        }

    def _response(self, status: Status, **fields: Any) -> dict[str, Any]:
        rest = {"error": None, "incomplete_details": None, "usage": None, **fields}
        return {**self._frame, "status": status, "output": self._output, **rest}

    def _state(self, name: str) -> bytes:
        return self._event(name, response=self.response)

    def _event(self, name: str, **fields: Any) -> bytes:
        kind = f"response.{name}"
        body = orjson.dumps({"type": kind, "sequence_number": self._sequence, **fields})
        self._sequence += 1
        return f"event: {kind}\ndata: ".encode() + body + b"\n\n"


def _spelt(token: Mapping[str, Any]) -> dict[str, Any]:
    """As an item has it, where each token has its bytes."""
    return {**_with_bytes(token), "top_logprobs": [_with_bytes(other) for other in token["top_logprobs"]]}


def _with_bytes(token: Mapping[str, Any]) -> dict[str, Any]:
    spelt = token["bytes"]
    raw = list(token["token"].encode()) if spelt is None else spelt
    return {"token": token["token"], "logprob": token["logprob"], "bytes": raw}


def _unspelt(token: Mapping[str, Any]) -> dict[str, Any]:
    """As an event has it, where no token has."""
    top = [{"token": other["token"], "logprob": other["logprob"]} for other in token["top_logprobs"]]
    return {"token": token["token"], "logprob": token["logprob"], "top_logprobs": top}
