"""A conversation as plain data, and how it is written as text.

Tasks make conversations, training and evaluation read them. `segments` mirrors the shipped chat template, because
training has to know which characters the assistant wrote; a test compares the two.
"""

import json
from dataclasses import dataclass, field

IM_START, IM_END = "<|im_start|>", "<|im_end|>"


@dataclass(frozen=True)
class Tool:
    """A function the assistant may call; every parameter is a string."""

    name: str
    description: str
    parameters: tuple[str, ...]

    def as_openai(self) -> dict[str, object]:
        """The shape in which clients send tools."""
        properties = {name: {"type": "string"} for name in self.parameters}
        schema = {"type": "object", "properties": properties, "required": list(self.parameters)}
        return {
            "type": "function",
            "function": {"name": self.name, "description": self.description, "parameters": schema},
        }


@dataclass(frozen=True)
class ToolCall:
    """One call the assistant makes."""

    name: str
    arguments: dict[str, str]

    def as_text(self) -> str:
        call = json.dumps({"name": self.name, "arguments": self.arguments}, ensure_ascii=False)
        return f"<tool_call>\n{call}\n</tool_call>"


@dataclass(frozen=True)
class Message:
    """One turn. `reasoning` and `calls` belong to the assistant only."""

    role: str
    content: str
    reasoning: str = ""
    calls: tuple[ToolCall, ...] = ()

    def body(self) -> str:
        """What stands between the markers of this turn."""
        if self.role == "tool":
            return f"<tool_response>\n{self.content}\n</tool_response>"
        thought = f"<think>\n{self.reasoning}\n</think>\n\n" if self.reasoning else ""
        calls = "\n".join(call.as_text() for call in self.calls)
        return thought + self.content + ("\n" if self.content and calls else "") + calls

    def as_openai(self) -> dict[str, object]:
        """The shape in which clients send messages."""
        message: dict[str, object] = {"role": self.role, "content": self.content}
        if self.reasoning:
            message["reasoning_content"] = self.reasoning
        if self.calls:
            message["tool_calls"] = [
                {"type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in self.calls
            ]
        return message


@dataclass(frozen=True)
class Conversation:
    """Messages with the task they come from; `value` is what the split between training and evaluation goes by."""

    task: str
    messages: tuple[Message, ...]
    value: str = ""
    tools: tuple[Tool, ...] = field(default=())

    @property
    def answer(self) -> str:
        """The body of the last turn, which is always the assistant's."""
        return self.messages[-1].body()


def exchange(task: str, question: str, answer: str, value: str = "", reasoning: str = "") -> Conversation:
    """The most common conversation: one question, one answer."""
    return Conversation(task, (Message("user", question), Message("assistant", answer, reasoning)), value)


def segments(conversation: Conversation) -> list[tuple[str, bool]]:
    """Pieces of text, each with whether the assistant wrote it and should learn it."""
    pieces: list[tuple[str, bool]] = []
    messages = list(conversation.messages)
    if conversation.tools:
        system = messages.pop(0).content if messages[0].role == "system" else ""
        pieces.append((_turn_start("system") + system + ("\n\n" if system else ""), False))
        pieces.append((_tool_block(conversation.tools) + f"{IM_END}\n", False))
    for message in messages:
        pieces.append((_turn_start("user" if message.role == "tool" else message.role), False))
        pieces.append((message.body() + IM_END, message.role == "assistant"))
        pieces.append(("\n", False))
    return pieces


def _turn_start(role: str) -> str:
    return f"{IM_START}{role}\n"


def _tool_block(tools: tuple[Tool, ...]) -> str:
    lines = [f"- {tool.name}({', '.join(tool.parameters)}): {tool.description}" for tool in tools]
    return (
        "# Tools\n" + "\n".join(lines) + '\nCall one with <tool_call>\n{"name": ..., "arguments": {...}}\n</tool_call>'
    )
