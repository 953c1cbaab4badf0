"""From what a caller has at hand (plain dicts) to a ChatRequest. The server checks bounds; here only names."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from modelengine import errors
from modelengine.chats import ChatOptions, ChatRequest, Message, ResponseFormat, Resume, ToolChoice

Record = TypeVar("Record")


def chat_request(
    name: str,
    messages: Sequence[Message | Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]] | None,
    options: ChatOptions | Mapping[str, Any] | None,
    stream: bool,
    resume: Resume | Mapping[str, Any] | None = None,
    tool_choice: ToolChoice | None = None,
    parallel_tool_calls: bool | None = None,
) -> ChatRequest:
    """Raises InvalidRequest naming a field that the protocol does not have."""
    return ChatRequest(
        model=name,
        messages=tuple(record(Message, message, f"messages[{i}]") for i, message in enumerate(messages)),
        tools=None if tools is None else tuple(dict(tool) for tool in tools),
        tool_choice=tool_choice,
        parallel_tool_calls=parallel_tool_calls,
        options=_options(options),
        stream=stream,
        resume=None if resume is None else record(Resume, resume, "resume"),
    )


def _options(given: ChatOptions | Mapping[str, Any] | None) -> ChatOptions:
    options = ChatOptions() if given is None else record(ChatOptions, given, "options")
    shape = options.response_format
    if shape is None:
        return options
    return dataclasses.replace(options, response_format=record(ResponseFormat, shape, "options.response_format"))


def record(cls: type[Record], given: Record | Mapping[str, Any], where: str) -> Record:
    """`where` is what the given is called in errors."""
    if isinstance(given, cls):
        return given
    if not isinstance(given, Mapping):
        raise errors.InvalidRequest(f"{where}: must be an object, got {given!r:.100}")
    fields = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]  # both are dataclasses
    unknown = sorted(set(given) - fields)
    if unknown:
        raise errors.InvalidRequest(f"{where}.{unknown[0]}: unknown; known are {', '.join(sorted(fields))}")
    try:
        return cls(**given)
    except TypeError as failure:
        raise errors.InvalidRequest(f"{where}: {failure}") from failure
