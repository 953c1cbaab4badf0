"""What the records of OpenAI's requests have in common: how they are read, and which of their fields had no effect.

Known fields are strict, and a null counts as not given. Unknown ones are kept beside them, since OpenAI's clients send
many that mean nothing to a server of one's own: they are accepted, and named in the header `x-modelengine-ignored`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, MaxLen, MinLen
from pydantic import BaseModel, BeforeValidator, ConfigDict

from modelengine.chats import AS_MUCH_AS_FITS, MAX_SEED, ChatOptions, ResponseFormat, TokenId
from modelengine.protocol import Name
from modelengine_api.invalid import refused

# How many answers one request may ask for, and how many all its prompts together.
MAX_N = 8
MAX_CHOICES = 32


def _limit(given: Any) -> Any:
    return AS_MUCH_AS_FITS if type(given) is int and given == WITHOUT_LIMIT else given


# What many clients send for "no limit".
WITHOUT_LIMIT = -1
TokenLimit = Annotated[int, Ge(1), BeforeValidator(_limit)]
# How much to think. Models here can only be asked whether to.
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class Fields(BaseModel):
    """An object of a request."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    def refuse(self, given_up: Mapping[str, str]) -> None:
        """Raises InvalidRequest for an unknown field that is one of these, with why."""
        for name, why in given_up.items():
            if (self.__pydantic_extra__ or {}).get(name) is not None:
                raise refused(name, why)

    def unknown(self) -> Iterator[str]:
        """The paths of the given fields that nothing here knows, list indexes left out: `messages.cache_control`."""
        for name, value in (self.__pydantic_extra__ or {}).items():
            if value is not None:
                yield name
        for name, value in self.__dict__.items():
            if isinstance(value, Fields):
                yield from (f"{name}.{inner}" for inner in value.unknown())
            elif isinstance(value, tuple):
                records = [item for item in value if isinstance(item, Fields)]
                yield from (f"{name}.{inner}" for record in records for inner in record.unknown())


class StreamOptions(Fields):
    include_usage: bool | None = None


class Sampling(Fields):
    """How to generate, in the fields that chats and completions share. From `top_k` to `cache_salt` they are vLLM's."""

    temperature: Annotated[float, Ge(0), Le(2)] | None = None
    top_p: Annotated[float, Gt(0), Le(1)] | None = None
    presence_penalty: Annotated[float, Ge(-2), Le(2)] | None = None
    frequency_penalty: Annotated[float, Ge(-2), Le(2)] | None = None
    # OpenAI's is signed; the native one has the same bits but the sign.
    seed: Annotated[int, Ge(-MAX_SEED - 1), Le(MAX_SEED)] | None = None
    stop: (
        Annotated[str, MinLen(1), MaxLen(256)]
        | Annotated[tuple[Annotated[str, MinLen(1), MaxLen(256)], ...], MaxLen(16)]
        | None
    ) = None
    logit_bias: Annotated[dict[TokenId, Annotated[float, Ge(-100), Le(100)]], MaxLen(1024)] | None = None
    n: Annotated[int, Ge(1), Le(MAX_N)] | None = None
    top_k: Annotated[int, Ge(-1)] | None = None
    min_p: Annotated[float, Ge(0), Le(1)] | None = None
    repetition_penalty: Annotated[float, Ge(0.01), Le(10)] | None = None
    cache_salt: Name | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @property
    def choices(self) -> int:
        return self.n or 1

    @property
    def wants_usage(self) -> bool:
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    def options(
        self,
        choice: int,
        *,
        max_tokens: int | None,
        top_logprobs: int | None,
        response_format: ResponseFormat | None = None,
        think: bool | None = None,
    ) -> ChatOptions:
        """The native options of one of the answers: each choice of a seeded request has a seed of its own."""
        return ChatOptions(
            max_new_tokens=max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            stop=self.stop,
            seed=None if self.seed is None else (self.seed + choice) & MAX_SEED,
            logit_bias=self.logit_bias,
            top_logprobs=top_logprobs,
            response_format=response_format,
            think=think,
        )

    def check_streaming(self) -> None:
        if self.stream_options is not None and not self.stream:
            raise refused("stream_options", "is only allowed where stream is true")


def plain(record: Fields) -> dict[str, Any]:
    """The object as it was given, unknown fields too, without its nulls."""
    return record.model_dump(exclude_none=True, by_alias=True)
