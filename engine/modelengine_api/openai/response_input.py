"""The `input` of `/v1/responses`, a list of things that were said, called and answered, as native messages. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from modelengine.chats import Message
from modelengine_api.invalid import refused
from modelengine_api.openai.content import Content, text_of
from modelengine_api.openai.fields import Fields

ROLES = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
STATELESS = "this server keeps no responses: send what was said before as input"


class Item(Fields):
    """One of them; which of the fields belong together is a matter of `type`. `id` and `status` say nothing to us."""

    type: str | None = None
    role: str | None = None
    content: Content | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: Content | None = None
    summary: tuple[dict[str, Any], ...] | None = None
    id: str | None = None
    status: str | None = None


def messages(given: str | Sequence[Item], instructions: str | None) -> tuple[Message, ...]:
    """The conversation. Raises InvalidRequest for what is not text, and for what would have to be kept here."""
    system = () if instructions is None else (Message("system", instructions),)
    if isinstance(given, str):
        return (*system, Message("user", given))
    conversation = _Conversation(list(system))
    for i, item in enumerate(given):
        conversation.add(item, f"input[{i}]")
    if not conversation.messages:
        raise refused("input", "must have at least 1 item(s), got 0")
    return tuple(conversation.messages)


@dataclasses.dataclass(slots=True)
class _Conversation:
    """What an assistant thinks, says and calls in a row is one message of a conversation."""

    messages: list[Message]
    thought: str | None = None

    def add(self, item: Item, loc: str) -> None:
        match item.type:
            case None | "message":
                self._say(item, loc)
            case "function_call":
                self._call(item, loc)
            case "function_call_output":
                self._answer(item, loc)
            case "reasoning":
                self._think(item)
            case "item_reference":
                raise refused(f"{loc}.type", STATELESS)
            case other:
                allowed = "'message', 'function_call', 'function_call_output' or 'reasoning'"
                raise refused(f"{loc}.type", f"must be {allowed}, got {other[:64]!r}")

    def _say(self, item: Item, loc: str) -> None:
        if item.role not in ROLES:
            raise refused(f"{loc}.role", f"must be 'user', 'assistant', 'system' or 'developer', got {item.role!r:.64}")
        if item.content is None:
            raise refused(f"{loc}.content", "is required")
        text = text_of(item.content, f"{loc}.content")
        if item.role == "assistant":
            self.messages.append(Message("assistant", text, reasoning_content=self._take_thought()))
        else:
            self._end_thought()
            self.messages.append(Message("user" if item.role == "user" else "system", text))

    def _call(self, item: Item, loc: str) -> None:
        function = {
            "name": _required(item.name, f"{loc}.name"),
            "arguments": _required(item.arguments, f"{loc}.arguments"),
        }
        call = {"id": _required(item.call_id, f"{loc}.call_id"), "type": "function", "function": function}
        if self.messages and self.messages[-1].role == "assistant" and self.thought is None:
            said = self.messages[-1]
            self.messages[-1] = dataclasses.replace(said, tool_calls=(*(said.tool_calls or ()), call))
        else:
            self.messages.append(Message("assistant", None, reasoning_content=self._take_thought(), tool_calls=(call,)))

    def _answer(self, item: Item, loc: str) -> None:
        call_id = _required(item.call_id, f"{loc}.call_id")
        if item.output is None:
            raise refused(f"{loc}.output", "is required")
        self.messages.append(Message("tool", text_of(item.output, f"{loc}.output"), tool_call_id=call_id))

    def _think(self, item: Item) -> None:
        """Only a thought that is open can be thought again; a summary is for people."""
        if item.content is not None and not isinstance(item.content, str):
            self.thought = "\n".join(part.text for part in item.content if part.text) or None

    def _end_thought(self) -> None:
        """A thought that was cut off before anything was said is all that the assistant had to say there."""
        if (thought := self._take_thought()) is not None:
            self.messages.append(Message("assistant", "", reasoning_content=thought))

    def _take_thought(self) -> str | None:
        thought, self.thought = self.thought, None
        return thought


def _required(value: str | None, loc: str) -> str:
    if value is None:
        raise refused(loc, "is required")
    return value
