"""A conversation as data: what was said, with which model, system message and options. `repl.py` is its terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelengine import errors
from modelengine.chats import ChatOptions, Message
from modelengine.protocol import from_json, to_json


@dataclass(slots=True)
class Conversation:
    """`turns` alternate between user and assistant. `last_prompt` is what `/retry` asks again."""

    model: str
    system: str | None = None
    options: ChatOptions = field(default_factory=ChatOptions)
    turns: list[Message] = field(default_factory=list)
    last_prompt: str | None = None

    def asking(self, prompt: str) -> list[Message]:
        """The messages to send for this prompt."""
        system = [] if self.system is None else [Message("system", self.system)]
        return [*system, *self.turns, Message("user", prompt)]

    def answered(self, prompt: str, text: str) -> None:
        """Keeps what the user saw, an aborted answer as far as it came; a prompt without any answer is not kept."""
        self.last_prompt = prompt
        if text:
            self.turns += [Message("user", prompt), Message("assistant", text)]

    def take_back(self) -> str:
        """Forgets the last answer and gives its prompt, to be asked again."""
        if self.last_prompt is None:
            raise errors.InvalidRequest("nothing to retry yet")
        if self.turns and self.turns[-2].content == self.last_prompt:
            del self.turns[-2:]
        return self.last_prompt

    def clear(self) -> None:
        self.turns.clear()
        self.last_prompt = None

    def save(self, path: Path) -> None:
        text = json.dumps(self.as_json(), ensure_ascii=False, indent=2) + "\n"
        try:
            path.expanduser().write_text(text, encoding="utf-8")
        except OSError as failure:
            raise errors.InvalidRequest(f"can't save to {path}: {failure.strerror}") from failure

    def load(self, path: Path) -> None:
        """Takes everything from a saved conversation. A file that is none raises InvalidRequest and changes nothing."""
        try:
            saved = _from_json(json.loads(path.expanduser().read_text(encoding="utf-8")))
        except OSError as failure:
            raise errors.InvalidRequest(f"can't load {path}: {failure.strerror}") from failure
        except (ValueError, KeyError, TypeError, AttributeError) as failure:
            raise errors.InvalidRequest(f"{path} is not a saved conversation") from failure
        self.model, self.system, self.options = saved.model, saved.system, saved.options
        self.turns, self.last_prompt = saved.turns, saved.last_prompt

    def as_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "system": self.system,
            "options": to_json(self.options),
            "turns": [to_json(turn) for turn in self.turns],
        }


def _from_json(saved: Mapping[str, Any]) -> Conversation:
    turns = [from_json(Message, turn) for turn in saved["turns"]]
    last_prompt = turns[-2].content if turns else None
    return Conversation(saved["model"], saved["system"], from_json(ChatOptions, saved["options"]), turns, last_prompt)
