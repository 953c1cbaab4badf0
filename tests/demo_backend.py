"""The shipped demo model behind the interface that the APIs see, without a server around it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

from demo import paths

from modelengine import wire
from modelengine.chat_request import chat_request
from modelengine.chats import ChatRequest
from modelengine_runtime import loader
from modelengine_runtime.app import EngineBackend
from modelengine_runtime.engine import Engine
from modelengine_runtime.lifecycle import Lifecycle
from modelengine_runtime.scheduler import Limits


@dataclass
class Ready:
    """What EngineBackend asks of a Lifecycle that is through."""

    engine: Engine
    name: str = "demo"


@contextmanager
def backend(**limits: Any) -> Iterator[EngineBackend]:
    """The demo model, in float32, so that its answers are the card's."""
    model = loader.load(paths.MODEL, device="cpu", dtype="float32")
    chosen = {"kv_blocks": 1000, "has_prefix_cache": model.has_prefix_cache, "draft_rows": 8, **limits}
    engine = Engine(model, Limits(8, 300, 256, **chosen))
    try:
        yield EngineBackend(cast(Lifecycle, Ready(engine)))
    finally:
        engine.stop()


def asking(
    *messages: str | Mapping[str, Any], tools: Sequence[Mapping[str, Any]] | None = None, **more: Any
) -> ChatRequest:
    """A text is a user's. What is no field of ChatRequest is an option."""
    turns = [{"role": "user", "content": message} if isinstance(message, str) else message for message in messages]
    fields = {key: more.pop(key) for key in ("tool_choice", "parallel_tool_calls", "resume") if key in more}
    return chat_request("demo", turns, tools, more, True, **fields)


async def streamed(backend: EngineBackend, request: ChatRequest) -> list[dict[str, Any]]:
    """The messages of the stream."""
    lines = [line async for line in backend.stream(request)]
    assert all(line.count(b"\n") == 1 for line in lines)
    return [wire.unwrap(json.loads(line)) for line in lines]
