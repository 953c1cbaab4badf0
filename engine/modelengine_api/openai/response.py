"""A request of `/v1/responses` as a native one. Pure.

Nothing is kept: what OpenAI would look up (an earlier response, a conversation, a stored prompt) is refused with what
to send in its place, and a response can't be asked for again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import orjson
from annotated_types import Ge, Gt, Le, MaxLen

from modelengine.chats import AS_MUCH_AS_FITS, ChatOptions, ChatRequest, ResponseFormat
from modelengine.protocol import Name
from modelengine_api.invalid import refused
from modelengine_api.openai import response_input
from modelengine_api.openai.fields import Effort, Fields, plain
from modelengine_api.openai.formats import FlatFormat
from modelengine_api.openai.response_input import STATELESS, Item
from modelengine_api.openai.tools import FlatTools, ToolChoice, offer
from modelengine_api.openai.wording import ANY_MESSAGE, Names

LOGPROBS = "message.output_text.logprobs"


class Text(Fields):
    format: FlatFormat | None = None


class Reasoning(Fields):
    effort: Effort | None = None


class ResponseRequest(Fields):
    model: Name
    input: str | Annotated[tuple[Item, ...], MaxLen(4096)] | None = None
    instructions: str | None = None
    max_output_tokens: Annotated[int, Ge(1)] | None = None
    temperature: Annotated[float, Ge(0), Le(2)] | None = None
    top_p: Annotated[float, Gt(0), Le(1)] | None = None
    top_logprobs: Annotated[int, Ge(0), Le(20)] | None = None
    include: Annotated[tuple[str, ...], MaxLen(64)] | None = None
    tools: FlatTools | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    text: Text | None = None
    reasoning: Reasoning | None = None
    metadata: Annotated[dict[str, str], MaxLen(16)] | None = None
    stream: bool | None = None
    store: bool | None = None
    background: bool | None = None
    truncation: Literal["auto", "disabled"] | None = None
    previous_response_id: str | None = None
    conversation: Any = None
    prompt: Any = None
    # vLLM's.
    cache_salt: Name | None = None

    @property
    def wants_logprobs(self) -> bool:
        return self.top_logprobs is not None or LOGPROBS in (self.include or ())

    def natives(self) -> list[ChatRequest]:
        """The one native request, streamed: a whole response is made of the same parts. Raises InvalidRequest."""
        self._check_state()
        if self.input is None:
            raise refused("input", "is required")
        offered = offer(self.tools, self.tool_choice)
        return [
            ChatRequest(
                self.model,
                response_input.messages(self.input, self.instructions),
                tools=offered.tools,
                tool_choice=offered.choice,
                parallel_tool_calls=self.parallel_tool_calls if offered.tools else None,
                options=self._options(),
                stream=True,
                cache_salt=self.cache_salt,
            )
        ]

    def names(self) -> Names:
        """What this request calls the native fields."""
        return {
            ANY_MESSAGE: "input",
            r"tools\[(\d+)\]\.function": r"tools[\1]",
            r"options\.response_format\.json_schema": "text.format.schema",
            r"options\.response_format": "text.format",
            r"options\.max_(new_)?tokens": "max_output_tokens",
            r"options\.think": "reasoning.effort",
        }

    def frame(self) -> Mapping[str, Any]:
        """What a response repeats of its request. Raises InvalidRequest where JSON can't say it back."""
        frame = {
            "model": self.model,
            "instructions": self.instructions,
            "max_output_tokens": self.max_output_tokens,
            "metadata": self.metadata or {},
            "parallel_tool_calls": self.parallel_tool_calls is not False,
            "previous_response_id": None,
            "reasoning": {"effort": self.reasoning and self.reasoning.effort, "summary": None},
            "temperature": self.temperature,
            "text": {"format": self._format()},
            "tool_choice": self.tool_choice or "auto",
            "tools": [plain(tool) for tool in self.tools or ()],
            "top_logprobs": self.top_logprobs,
            "top_p": self.top_p,
            "truncation": "disabled",
        }
        try:
            orjson.dumps(frame)
        except TypeError as failure:
            raise refused("body", "its whole numbers must have at most 64 bits") from failure
        return frame

    def ignored(self) -> Iterator[str]:
        """The given fields that have no effect."""
        if self.store:
            yield "store"
        if self.truncation == "auto":
            yield "truncation"
        if self._forgoes_thought():
            yield "reasoning.effort"
        yield from (f"include.{name}" for name in self.include or () if name != LOGPROBS)
        yield from self.unknown()

    def _options(self) -> ChatOptions:
        return ChatOptions(
            max_new_tokens=self.max_output_tokens or AS_MUCH_AS_FITS,
            temperature=self.temperature,
            top_p=self.top_p,
            top_logprobs=(self.top_logprobs or 0) if self.wants_logprobs else None,
            response_format=self._native_format(),
            think=None if self._forgoes_thought() else self._think(),
        )

    def _native_format(self) -> ResponseFormat | None:
        return None if self.text is None or self.text.format is None else self.text.format.native("text.format")

    def _think(self) -> bool | None:
        return None if self.reasoning is None or self.reasoning.effort is None else self.reasoning.effort != "none"

    def _forgoes_thought(self) -> bool:
        """As of chats: an answer in a format, or that must call a tool, begins with it."""
        is_bound = self._native_format() is not None or offer(self.tools, self.tool_choice).choice == "required"
        return is_bound and bool(self._think())

    def _format(self) -> Mapping[str, Any]:
        return {"type": "text"} if self.text is None or self.text.format is None else plain(self.text.format)

    def _check_state(self) -> None:
        for name in ("previous_response_id", "conversation"):
            if getattr(self, name) is not None:
                raise refused(name, STATELESS)
        if self.prompt is not None:
            raise refused("prompt", "this server keeps no prompts: send the text as instructions and input")
        if self.background:
            raise refused("background", "this server keeps no responses: use stream for an answer that takes long")
