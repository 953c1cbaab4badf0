"""Which functions a model may call, and whether it must: OpenAI's `tools` and `tool_choice` as the native ones.

Chat Completions wraps a function into an object of its own, Responses doesn't; both are read here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import MaxLen, MinLen

from modelengine_api.invalid import refused
from modelengine_api.openai.fields import Fields, plain

MAX_TOOLS = 256

Name = Annotated[str, MinLen(1), MaxLen(256)]
Choice = Literal["auto", "none", "required"]
WORDS: Mapping[str, Choice] = {"auto": "auto", "none": "none", "required": "required"}
# An object that names functions, or one of the words.
ToolChoice = str | dict[str, Any]


class Function(Fields):
    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Fields):
    """One of `tools` of Chat Completions."""

    type: str
    function: Function | None = None

    def native(self, loc: str) -> dict[str, Any]:
        _check_type(self.type, loc)
        if self.function is None:
            raise refused(f"{loc}.function", "is required")
        return {"type": "function", "function": plain(self.function)}


class FlatTool(Fields):
    """One of `tools` of Responses, as which it is also said back."""

    type: str
    name: Name | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None

    def native(self, loc: str) -> dict[str, Any]:
        _check_type(self.type, loc)
        if self.name is None:
            raise refused(f"{loc}.name", "is required")
        function = {"name": self.name, "description": self.description, "parameters": self.parameters}
        given = {key: value for key, value in function.items() if value is not None}
        return {"type": "function", "function": given | ({} if self.strict is None else {"strict": self.strict})}


Tools = Annotated[tuple[Tool, ...], MaxLen(MAX_TOOLS)]
FlatTools = Annotated[tuple[FlatTool, ...], MaxLen(MAX_TOOLS)]


@dataclass(frozen=True, slots=True)
class Offer:
    """`tools` and `tool_choice` of a native request."""

    tools: tuple[dict[str, Any], ...] | None
    choice: Choice | None


def offer(tools: Sequence[Tool | FlatTool] | None, choice: ToolChoice | None) -> Offer:
    """The functions that may be called and whether one must be; a choice of certain functions offers only these.

    Raises InvalidRequest for a tool that is no function, and a choice of what is not offered.
    """
    native = tuple(tool.native(f"tools[{i}]") for i, tool in enumerate(tools or ()))
    mode, names = _read(choice)
    if names is not None:
        native = _only(native, names)
    if mode == "required" and not native:
        raise refused("tool_choice", "asks for a call, but there are no tools")
    return Offer(native or None, mode if native else None)


def _only(native: Sequence[dict[str, Any]], names: Sequence[str]) -> tuple[dict[str, Any], ...]:
    offered = [tool["function"]["name"] for tool in native]
    for name in names:
        if name not in offered:
            known = ", ".join(offered)[:500]
            raise refused("tool_choice", f"names {name[:64]!r}, which is not one of tools ({known or 'none'})")
    return tuple(tool for tool in native if tool["function"]["name"] in names)


def _read(choice: ToolChoice | None) -> tuple[Choice | None, Sequence[str] | None]:
    """The word that the choice comes to, and the names of the functions it is limited to; None: all."""
    if choice is None:
        return None, None
    if isinstance(choice, str) and choice in WORDS:
        return WORDS[choice], None
    if isinstance(choice, dict) and choice.get("type") == "function":
        return "required", [_name(choice)]
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        return _allowed(choice.get("allowed_tools", choice))
    raise refused("tool_choice", "must be 'auto', 'none', 'required', or an object that names a function")


def _allowed(allowed: Any) -> tuple[Choice, Sequence[str]]:
    tools = allowed.get("tools") if isinstance(allowed, Mapping) else None
    mode = allowed.get("mode") if isinstance(allowed, Mapping) else None
    if not isinstance(tools, list) or mode not in ("auto", "required"):
        raise refused("tool_choice", "allowed_tools must have a mode, 'auto' or 'required', and a list of tools")
    return ("required" if mode == "required" else "auto"), [_name(tool) for tool in tools]


def _name(named: Any) -> str:
    inner = named.get("function", named) if isinstance(named, Mapping) else None
    name = inner.get("name") if isinstance(inner, Mapping) else None
    if not isinstance(name, str):
        raise refused("tool_choice", "must name a function, as in {'type': 'function', 'function': {'name': ...}}")
    return name


def _check_type(kind: str, loc: str) -> None:
    if kind != "function":
        raise refused(f"{loc}.type", f"must be 'function', got {kind[:64]!r}: only functions of yours can be called")
