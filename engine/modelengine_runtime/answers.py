"""Events of one answer as the native protocol writes them: a line per part, or one whole answer. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import orjson

from modelengine import wire
from modelengine_runtime.sequence import End, Event, Part


def _new_id() -> str:
    return f"chat-{uuid4().hex}"


@dataclass(frozen=True, slots=True)
class Renderer:
    """`prompt_length` counts the prompt's tokens; `seed` is the one in use, asked for or drawn."""

    model: str
    prompt_length: int
    seed: int
    id: str = field(default_factory=_new_id)

    def line(self, event: Event) -> bytes:
        """One NDJSON line of a stream."""
        return orjson.dumps(wire.ok(self._end(event) if isinstance(event, End) else self._part(event))) + b"\n"

    def whole(self, events: Sequence[Event]) -> dict[str, Any]:
        """The `msg` of an answer that is not streamed; the events are all of it."""
        *parts, end = events
        assert isinstance(end, End)
        texts = [part for part in parts if isinstance(part, Part)]
        return {
            "model": self.model,
            "prompt_length": self.prompt_length,
            "response_length": end.length,
            "finish_reason": end.reason,
            "content": "".join(part.text for part in texts),
            "token_ids": [*(token for part in texts for token in part.token_ids), *end.token_ids],
            **self._closing(end),
        }

    def _part(self, part: Event) -> dict[str, Any]:
        assert isinstance(part, Part)
        return {
            "model": self.model,
            "prompt_length": self.prompt_length,
            "response_length": part.length,
            "finish_reason": None,
            "content": part.text,
            "done": False,
            "id": self.id,
            "index": part.index,
            "token_ids": part.token_ids,
        }

    def _end(self, end: End) -> dict[str, Any]:
        return {
            "model": self.model,
            "prompt_length": self.prompt_length,
            "response_length": end.length,
            "finish_reason": end.reason,
            "content": None,
            "done": True,
            "index": end.index,
            "token_ids": end.token_ids,
            **self._closing(end),
        }

    def _closing(self, end: End) -> dict[str, Any]:
        return {
            "id": self.id,
            "seed": self.seed,
            "prompt_tokens": self.prompt_length,
            "completion_tokens": end.length,
            "total_tokens": self.prompt_length + end.length,
        }
