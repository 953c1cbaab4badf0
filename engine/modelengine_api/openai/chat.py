"""A request of `/v1/chat/completions` as native ones, one for each choice. Pure; `routes.py` sends them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le, MaxLen, MinLen

from modelengine.chats import AS_MUCH_AS_FITS, ChatRequest, Message
from modelengine.protocol import Name
from modelengine_api.invalid import refused
from modelengine_api.openai.content import Content, text_of
from modelengine_api.openai.fields import Effort, Fields, TokenLimit, plain
from modelengine_api.openai.formats import Formatted
from modelengine_api.openai.tools import ToolChoice, Tools, offer
from modelengine_api.openai.wording import Names

# What OpenAI has given up and nothing here reads: taking it silently would change what an answer means.
GIVEN_UP = {
    "functions": "was given up by OpenAI; use tools",
    "function_call": "was given up by OpenAI; use tool_choice",
}


class CalledFunction(Fields):
    name: str
    arguments: str


class ToolCall(Fields):
    id: str
    type: Literal["function"] = "function"
    function: CalledFunction


class ChatMessage(Fields):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    name: str | None = None
    tool_calls: Annotated[tuple[ToolCall, ...], MaxLen(256)] | None = None
    tool_call_id: str | None = None
    function_call: dict[str, Any] | None = None
    audio: dict[str, Any] | None = None

    def native(self, loc: str) -> Message:
        if self.function_call is not None:
            raise refused(f"{loc}.function_call", "was given up by OpenAI; use tool_calls")
        if self.audio is not None:
            raise refused(f"{loc}.audio", "audio is not taken, only text")
        if self.role == "assistant":
            return self._assistant(loc)
        if self.content is None:
            raise refused(f"{loc}.content", "is required")
        if self.role == "tool" and self.tool_call_id is None:
            raise refused(f"{loc}.tool_call_id", "is required where role is 'tool'")
        role = "system" if self.role == "developer" else self.role
        return Message(role, text_of(self.content, f"{loc}.content"), name=self.name, tool_call_id=self.tool_call_id)

    def _assistant(self, loc: str) -> Message:
        content = self.refusal if self.content is None else text_of(self.content, f"{loc}.content")
        calls = tuple(plain(call) for call in self.tool_calls or ())
        return Message(
            "assistant",
            content if content is not None or calls else "",
            reasoning_content=self.reasoning_content,
            name=self.name,
            tool_calls=calls or None,
        )


class TemplateSwitches(Fields):
    """vLLM's `chat_template_kwargs`."""

    enable_thinking: bool | None = None


class ChatCompletionRequest(Formatted):
    model: Name
    messages: Annotated[tuple[ChatMessage, ...], MinLen(1), MaxLen(4096)]
    max_tokens: TokenLimit | None = None
    max_completion_tokens: TokenLimit | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Ge(0), Le(20)] | None = None
    tools: Tools | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: Effort | None = None
    chat_template_kwargs: TemplateSwitches | None = None
    modalities: tuple[str, ...] | None = None
    store: bool | None = None

    def natives(self) -> list[ChatRequest]:
        """A native request for each choice, alike but for the seed. Raises InvalidRequest."""
        self._check()
        offered = offer(self.tools, self.tool_choice)
        messages = tuple(message.native(f"messages[{i}]") for i, message in enumerate(self.messages))
        tokens, likelihoods, form = self._limit(), self._likelihoods(), self.native_format()
        think = None if self._forgoes_thought() else self._think()
        return [
            ChatRequest(
                self.model,
                messages,
                tools=offered.tools,
                tool_choice=offered.choice,
                parallel_tool_calls=self.parallel_tool_calls if offered.tools else None,
                options=self.options(i, max_tokens=tokens, top_logprobs=likelihoods, response_format=form, think=think),
                stream=bool(self.stream),
                cache_salt=self.cache_salt,
            )
            for i in range(self.choices)
        ]

    def ignored(self) -> Iterator[str]:
        """The given fields that have no effect."""
        # Nothing is stored here: only who asks for it has to hear so.
        if self.store:
            yield "store"
        if self._forgoes_thought():
            yield "chat_template_kwargs.enable_thinking" if self.reasoning_effort is None else "reasoning_effort"
        yield from self.unknown()

    def names(self) -> Names:
        """What this request calls the native fields."""
        is_old = self.max_completion_tokens is None and self.max_tokens is not None
        is_switch = self.reasoning_effort is None and self.chat_template_kwargs is not None
        return {
            **self.format_names(),
            r"options\.max_(new_)?tokens": "max_tokens" if is_old else "max_completion_tokens",
            r"options\.think": "chat_template_kwargs.enable_thinking" if is_switch else "reasoning_effort",
        }

    def _check(self) -> None:
        self.check_streaming()
        self.refuse(GIVEN_UP)
        if self.modalities is not None and set(self.modalities) - {"text"}:
            raise refused("modalities", "must be ['text']: models here answer in text only")

    def _limit(self) -> int:
        if None not in (self.max_tokens, self.max_completion_tokens) and self.max_tokens != self.max_completion_tokens:
            raise refused(
                "max_tokens",
                f"is the old name of max_completion_tokens, but {self.max_tokens} and {self.max_completion_tokens} "
                "were given",
            )
        return self.max_completion_tokens or self.max_tokens or AS_MUCH_AS_FITS

    def _likelihoods(self) -> int | None:
        if self.logprobs:
            return self.top_logprobs or 0
        if self.top_logprobs:
            raise refused("top_logprobs", "is only allowed where logprobs is true")
        return None

    def _forgoes_thought(self) -> bool:
        """An answer in a format, or that must call a tool, begins with it: that is what a program waits for."""
        is_bound = self.native_format() is not None or offer(self.tools, self.tool_choice).choice == "required"
        return is_bound and bool(self._think())

    def _think(self) -> bool | None:
        effort = None if self.reasoning_effort is None else self.reasoning_effort != "none"
        switch = None if self.chat_template_kwargs is None else self.chat_template_kwargs.enable_thinking
        if None not in (effort, switch) and effort != switch:
            raise refused("reasoning_effort", f"{self.reasoning_effort!r} contradicts chat_template_kwargs")
        return switch if effort is None else effort
