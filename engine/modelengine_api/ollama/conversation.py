"""The messages of an Ollama chat as native ones. Pure.

Ollama's clients name the tool whose result a message is, or not even that, where chat templates want the id of the
call: a result that has none belongs to the first call that has no result yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modelengine import errors
from modelengine.chats import Message
from modelengine_api.ollama.calls import CallMessage, ToolCall

NO_IMAGES = "this server takes text only; leave images out"


def native_messages(told: Sequence[CallMessage]) -> tuple[Message, ...]:
    """Raises InvalidRequest for a message with an image."""
    calls = Calls()
    return tuple(_message(i, message, calls) for i, message in enumerate(told))


class Calls:
    """The tool calls of a conversation, in order: gives ids to those that have none, and says which one is answered."""

    def __init__(self) -> None:
        self._count = 0
        # (id, name) of each call that has no result yet.
        self._open: list[tuple[str, str]] = []

    def made(self, call: ToolCall) -> dict[str, Any]:
        call_id = call.id or f"call_{self._count}"
        self._count += 1
        self._open.append((call_id, call.function.name))
        return {
            "id": call_id,
            "type": "function",
            "function": {"name": call.function.name, "arguments": call.function.arguments},
        }

    def answered(self, call_id: str | None, name: str | None) -> tuple[str | None, str | None]:
        """Id and name of the call that a result belongs to, as far as it can be told."""
        for i, (open_id, open_name) in enumerate(self._open):
            if call_id in (None, open_id) and name in (None, open_name):
                del self._open[i]
                return open_id, open_name
        return call_id, name


def _message(index: int, told: CallMessage, calls: Calls) -> Message:
    if told.images:
        raise errors.InvalidRequest(f"messages[{index}].images: {NO_IMAGES}")
    call_id, name = None, None
    if told.role == "tool":
        call_id, name = calls.answered(told.tool_call_id, told.tool_name)
    return Message(
        role=told.role,
        content=told.content,
        reasoning_content=told.thinking,
        name=name,
        tool_calls=tuple(calls.made(call) for call in told.tool_calls or ()) or None,
        tool_call_id=call_id,
    )
