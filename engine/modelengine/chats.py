"""A chat in the native protocol, as data: what is asked, how to answer, and the answer, whole or in parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le, MaxLen, MinLen

from modelengine.protocol import STRICT, Name

DEFAULT_MAX_NEW_TOKENS = 512
# As `max_new_tokens`: an engine cuts it to what the context leaves.
AS_MUCH_AS_FITS = 2**31 - 1
MAX_SEED = 2**63 - 1
MAX_TOKEN_ID = 2**31 - 1
MAX_GRAMMAR_CHARACTERS = 65_536

TokenId = Annotated[int, Ge(0), Le(MAX_TOKEN_ID)]
ToolChoice = Literal["auto", "none", "required"]


class FinishReason(StrEnum):
    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"


@dataclass(frozen=True, slots=True)
class Message:
    """`reasoning_content` is what an assistant thought before it spoke. `tool_calls` have the form `{"id": ..., "type":
    "function", "function": {"name": ..., "arguments": ...}}`, where the arguments are an object or its JSON."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str | None = None
    reasoning_content: str | None = None
    name: str | None = None
    tool_calls: tuple[dict[str, Any], ...] | None = None
    tool_call_id: str | None = None

    __pydantic_config__: ClassVar[Mapping[str, Any]] = STRICT


@dataclass(frozen=True, slots=True)
class ResponseFormat:
    """What the whole content of an answer must be: any text, any JSON object, JSON that a schema allows, a match of a
    regular expression, one of some texts, or what a grammar in Lark's notation allows. The field of that name must be
    given then, and no other.

    An answer that ends by itself is that; one that is cut, by its length or by a stop string, is its beginning. It is
    not thought about first, and calls no tools."""

    type: Literal["text", "json_object", "json_schema", "regex", "choice", "grammar"]
    json_schema: dict[str, Any] | None = None
    regex: Annotated[str, MinLen(1), MaxLen(MAX_GRAMMAR_CHARACTERS)] | None = None
    choice: Annotated[tuple[Annotated[str, MinLen(1), MaxLen(4096)], ...], MinLen(1), MaxLen(256)] | None = None
    grammar: Annotated[str, MinLen(1), MaxLen(MAX_GRAMMAR_CHARACTERS)] | None = None

    __pydantic_config__: ClassVar[Mapping[str, Any]] = STRICT


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """How to generate. What is not given comes from the model's own generation config.

    `temperature` 0 is greedy, and so is less than 0.00001. `seed` makes a sampled answer repeatable: the noise of
    token i is a function of (seed, i) alone. `max_tokens` is another name for `max_new_tokens`. `logit_bias` is added
    to the scores of tokens, by their ids. `top_logprobs` asks for how likely each token was, and so many others in its
    place. `think` asks a model that can do both to think before it speaks, or not to: True is refused by one that has
    no such switch, which never thinks or always.
    """

    max_new_tokens: Annotated[int, Ge(1)] | None = None
    max_tokens: Annotated[int, Ge(1)] | None = None
    temperature: Annotated[float, Ge(0), Le(5)] | None = None
    top_p: Annotated[float, Gt(0), Le(1)] | None = None
    top_k: Annotated[int, Ge(-1)] | None = None
    min_p: Annotated[float, Ge(0), Le(1)] | None = None
    repetition_penalty: Annotated[float, Ge(0.01), Le(10)] | None = None
    presence_penalty: Annotated[float, Ge(-2), Le(2)] | None = None
    frequency_penalty: Annotated[float, Ge(-2), Le(2)] | None = None
    stop: (
        Annotated[str, MinLen(1), MaxLen(256)]
        | Annotated[tuple[Annotated[str, MinLen(1), MaxLen(256)], ...], MaxLen(16)]
        | None
    ) = None
    seed: Annotated[int, Ge(0), Le(MAX_SEED)] | None = None
    logit_bias: Annotated[dict[TokenId, Annotated[float, Ge(-100), Le(100)]], MaxLen(1024)] | None = None
    top_logprobs: Annotated[int, Ge(0), Le(20)] | None = None
    response_format: ResponseFormat | None = None
    think: bool | None = None

    __pydantic_config__: ClassVar[Mapping[str, Any]] = STRICT

    @property
    def token_limit(self) -> int:
        return self.max_new_tokens or self.max_tokens or DEFAULT_MAX_NEW_TOKENS

    @property
    def stop_strings(self) -> tuple[str, ...]:
        if self.stop is None:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)


@dataclass(frozen=True, slots=True)
class Resume:
    """An answer that broke off goes on, here or on another replica: `token_ids` are all tokens that came of it.

    The request is the first one in all else, and its seed is the one that was used. Nothing of these tokens is sent
    again: the parts that follow begin at their number, and `response_length` and `max_new_tokens` count them.
    Parts that came after the last one with tokens come again: whoever resumes forgets them.
    """

    # No more than the answer may have; what that is depends on the model's context, so the engine checks it.
    token_ids: tuple[TokenId, ...]

    __pydantic_config__: ClassVar[Mapping[str, Any]] = STRICT


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """`tools` have the form `{"type": "function", "function": {"name": ..., "description": ..., "parameters": ...}}`,
    where the parameters are a JSON schema. `tool_choice` says whether the model may call them: as it likes, which is
    the default, never, or it must, and then with arguments that the schema allows, and without a thought. Where
    `parallel_tool_calls` is false, an answer ends with its first call. What was computed of one prompt is used for
    another that begins alike only where both have the same `cache_salt`, or none."""

    model: Name
    messages: Annotated[tuple[Message, ...], MinLen(1), MaxLen(4096)]
    tools: Annotated[tuple[dict[str, Any], ...], MaxLen(256)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    options: ChatOptions = field(default_factory=ChatOptions)
    stream: bool = True
    resume: Resume | None = None
    cache_salt: Name | None = None

    __pydantic_config__: ClassVar[Mapping[str, Any]] = STRICT


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """How likely the model itself thought a token: the natural logarithm. `bytes` are the token's, which may be part of
    a character; `top` are the likeliest tokens in its place, each as this without a `top`. `is_content` is false of a
    token of a thought, a call or a mark around them, and is left out where it is true."""

    token: str
    token_id: int
    logprob: float
    bytes: tuple[int, ...] | None = None
    top: tuple[Mapping[str, Any], ...] = ()
    is_content: bool = True


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds: in the queue until the first step, from there to the first token, from there to the end."""

    queued_s: float
    prompt_s: float
    answer_s: float


@dataclass(frozen=True, slots=True)
class ChatResponse:
    """A whole answer. `prompt_length` and `response_length` count tokens; the end-of-turn token is not counted.

    `content` is what is said to the reader; what the model thought before is `reasoning_content`, and `tool_calls` are
    as in Message, the arguments as JSON. `cached_tokens` of the prompt were known from an earlier request.
    `logprobs` are TokenLogprobs as plain data, one for each token, where they were asked for.
    """

    model: str
    prompt_length: int
    response_length: int
    finish_reason: str
    content: str
    id: str = field(default="", repr=False)
    token_ids: tuple[int, ...] = field(default=(), repr=False)
    prompt_tokens: int = field(default=0, repr=False)
    completion_tokens: int = field(default=0, repr=False)
    total_tokens: int = field(default=0, repr=False)
    cached_tokens: int = field(default=0, repr=False)
    seed: int | None = field(default=None, repr=False)
    reasoning_content: str | None = field(default=None, repr=False)
    tool_calls: tuple[Mapping[str, Any], ...] | None = field(default=None, repr=False)
    logprobs: tuple[Mapping[str, Any], ...] | None = field(default=None, repr=False)
    timings: Mapping[str, float] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class ChatChunk:
    """One part of a streamed answer; the last has `done` true, no content, and the reason why it ended.

    `index` is the position of the part's first token in the answer, `token_ids` the tokens that its text came from.
    A part has `content`, or `reasoning_content`, or `tool_calls` that are complete; where it has one of the two others,
    its `content` is empty. What came of one token may be several parts: the last of them has the token. The fields are
    those of ChatResponse; counts, seed and timings come with the last part.
    """

    model: str
    prompt_length: int
    response_length: int
    finish_reason: str | None
    content: str | None
    done: bool
    id: str = field(default="", repr=False)
    index: int = field(default=0, repr=False)
    token_ids: tuple[int, ...] = field(default=(), repr=False)
    prompt_tokens: int | None = field(default=None, repr=False)
    completion_tokens: int | None = field(default=None, repr=False)
    total_tokens: int | None = field(default=None, repr=False)
    cached_tokens: int | None = field(default=None, repr=False)
    seed: int | None = field(default=None, repr=False)
    reasoning_content: str | None = field(default=None, repr=False)
    tool_calls: tuple[Mapping[str, Any], ...] | None = field(default=None, repr=False)
    logprobs: tuple[Mapping[str, Any], ...] | None = field(default=None, repr=False)
    timings: Mapping[str, float] | None = field(default=None, repr=False)
