"""What Ollama's clients send, as records; `routes.py` reads bodies into them, `requests.py` translates them.

Unlike our own records they take fields that nobody knows, as Ollama does: those end up beside the fields, and `unknown`
names them. So these records have no slots, and no methods that such a field could hide.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import MaxLen

from modelengine.protocol import Name
from modelengine_api.ignored import OPEN

Format = str | dict[str, Any]
Think = bool | str
ModelName = Annotated[str, MaxLen(256)]
KeepAlive = float | Annotated[str, MaxLen(64)]


@dataclass(frozen=True)
class CalledFunction:
    name: str
    arguments: dict[str, Any] | str = dataclasses.field(default_factory=dict)
    index: int | None = None

    __pydantic_config__: ClassVar[Mapping[str, Any]] = OPEN


@dataclass(frozen=True)
class ToolCall:
    function: CalledFunction
    id: str | None = None
    type: Literal["function"] | None = None

    __pydantic_config__: ClassVar[Mapping[str, Any]] = OPEN


@dataclass(frozen=True)
class CallMessage:
    role: Literal["system", "user", "assistant", "tool"]
    content: str = ""
    thinking: str | None = None
    images: tuple[Any, ...] | None = None
    tool_calls: tuple[ToolCall, ...] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None

    __pydantic_config__: ClassVar[Mapping[str, Any]] = OPEN


@dataclass(frozen=True)
class Call:
    """What chat and generate have in common."""

    model: Name
    stream: bool = True
    format: Format | None = None
    think: Think | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    options: dict[str, Any] | None = None
    keep_alive: KeepAlive | None = None

    __pydantic_config__: ClassVar[Mapping[str, Any]] = OPEN


@dataclass(frozen=True)
class ChatCall(Call):
    messages: Annotated[tuple[CallMessage, ...], MaxLen(4096)] = ()
    tools: Annotated[tuple[dict[str, Any], ...], MaxLen(256)] | None = None


@dataclass(frozen=True)
class GenerateCall(Call):
    prompt: str = ""
    system: str = ""
    suffix: str = ""
    template: str = ""
    raw: bool = False
    context: tuple[int, ...] | None = None
    images: tuple[Any, ...] | None = None


@dataclass(frozen=True)
class ShowCall:
    """`name` is what older clients call the model; the other of the two may be empty, as Ollama's own clients send
    it."""

    model: ModelName | None = None
    name: ModelName | None = None

    __pydantic_config__: ClassVar[Mapping[str, Any]] = OPEN


def unknown(record: Any, at: str = "") -> Iterator[str]:
    """The paths of the fields that a record of this module was given and does not have, those of its parts too."""
    known = _names(type(record))  # type: ignore[arg-type]  # a class is hashable
    for name, value in vars(record).items():
        if name not in known:
            yield at + name
            continue
        for part in value if isinstance(value, tuple) else (value,):
            if dataclasses.is_dataclass(part):
                yield from unknown(part, f"{at}{name}.")


@cache
def _names(cls: Any) -> frozenset[str]:
    return frozenset(field.name for field in dataclasses.fields(cls))
