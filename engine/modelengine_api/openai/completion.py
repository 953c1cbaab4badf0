"""A request of `/v1/completions`, OpenAI's old API, as native ones, one for each choice of each prompt. Pure.

The native protocol chats. So a prompt is put to the model as what a user says, through the model's chat template, and
the completion is what the assistant answers; the header `x-modelengine-prompt` says so. A model that thinks is asked
not to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from annotated_types import Ge, Le, MaxLen, MinLen

from modelengine.chats import ChatRequest, Message
from modelengine.protocol import Name
from modelengine_api.invalid import refused
from modelengine_api.openai.fields import MAX_CHOICES, TokenLimit
from modelengine_api.openai.formats import Formatted
from modelengine_api.openai.wording import ANY_MESSAGE, Names

PROMPT_HEADERS = {"x-modelengine-prompt": "sent as a user message"}


class CompletionRequest(Formatted):
    model: Name
    prompt: str | Annotated[tuple[Any, ...], MinLen(1), MaxLen(MAX_CHOICES)] | None = None
    max_tokens: TokenLimit | None = None
    logprobs: Annotated[int, Ge(0), Le(20)] | None = None
    echo: bool | None = None
    suffix: str | None = None
    best_of: Annotated[int, Ge(1)] | None = None

    @property
    def prompts(self) -> Sequence[str]:
        """Raises InvalidRequest for token ids, which only the model's own tokenizer could read."""
        if self.prompt is None:
            raise refused("prompt", "is required")
        if isinstance(self.prompt, str):
            return [self.prompt]
        for i, prompt in enumerate(self.prompt):
            if not isinstance(prompt, str):
                raise refused(f"prompt[{i}]", "must be a string: prompts of token ids are not taken")
        return self.prompt

    def natives(self) -> list[ChatRequest]:
        """For each prompt a native request for each choice. Raises InvalidRequest."""
        self._check()
        prompts, form = self.prompts, self.native_format()
        if len(prompts) * self.choices > MAX_CHOICES:
            raise refused("prompt", f"{len(prompts)} prompts with n={self.choices} are over {MAX_CHOICES} answers")
        return [
            ChatRequest(
                self.model,
                (Message("user", prompt),),
                options=self.options(
                    i, max_tokens=self.max_tokens, top_logprobs=self.logprobs, response_format=form, think=False
                ),
                stream=bool(self.stream),
                cache_salt=self.cache_salt,
            )
            for prompt in prompts
            for i in range(self.choices)
        ]

    def names(self) -> Names:
        """What this request calls the native fields."""
        return {
            **self.format_names(),
            ANY_MESSAGE: "prompt",
            r"options\.max_(new_)?tokens": "max_tokens",
            r"options\.top_logprobs": "logprobs",
        }

    def echoes(self) -> list[str]:
        """What each choice repeats before its answer."""
        return [prompt if self.echo else "" for prompt in self.prompts for _ in range(self.choices)]

    def ignored(self) -> Iterator[str]:
        """The given fields that have no effect."""
        return self.unknown()

    def _check(self) -> None:
        self.check_streaming()
        if self.suffix:
            raise refused("suffix", "is not taken: models here answer, they don't fill in")
        if self.best_of is not None and self.best_of != self.choices:
            raise refused("best_of", f"must be as n is, {self.choices}, got {self.best_of}: every answer is returned")
        if self.echo and self.logprobs is not None:
            raise refused("echo", "is only allowed without logprobs: how likely a prompt is, is not known here")
