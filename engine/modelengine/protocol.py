"""The native protocol as data: what the name server, an engine and a client say to each other.

Frozen dataclasses of the standard library. The HTTP doors validate them (FastAPI reads the bounds from the
annotations), the client fills them from JSON with `from_json`, which ignores fields that a newer server has added.
Every bound and default of the protocol stands here and nowhere else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from annotated_types import Ge, Gt, Le, MaxLen, MinLen

DEFAULT_PORT = 9527
# What a model speaks: that can be chatted with, that makes vectors of texts, that says how well texts answer a query.
CHAT = "chat"
EMBED = "embed"
RERANK = "rerank"
PROTOCOLS = (CHAT, EMBED, RERANK)
DEFAULT_MAX_NEW_TOKENS = 512
# As `max_new_tokens`: an engine cuts it to what the context leaves.
AS_MUCH_AS_FITS = 2**31 - 1
MAX_SEED = 2**63 - 1
MAX_TOKEN_ID = 2**31 - 1
MAX_GRAMMAR_CHARACTERS = 65_536
MAX_INPUTS = 2048

# Requests refuse fields they do not know: a misspelt option must not be silently without effect.
STRICT: Mapping[str, Any] = {"extra": "forbid", "strict": True}

Name = Annotated[str, MinLen(1), MaxLen(256)]
TokenId = Annotated[int, Ge(0), Le(MAX_TOKEN_ID)]
ToolChoice = Literal["auto", "none", "required"]
# What is taken in whole, one of many; an empty one has nothing to be taken in.
Input = Annotated[str, MinLen(1)]
Inputs = Annotated[tuple[Input, ...], MinLen(1), MaxLen(MAX_INPUTS)]
Record = TypeVar("Record")


class NameServerMethod(StrEnum):
    """The calls of the name server: `POST /nameserver/<method>`."""

    DEREGISTER = "deregister"
    GET_SERVICE_NAMES = "get_service_names"
    GET_SERVICES = "get_services"
    INFO = "info"
    REGISTER = "register"
    REPORT = "report"
    SUPPORT_METHODS = "support_methods"
    WAIT = "wait"
    WATCH = "watch"


class EngineMethod(StrEnum):
    """The calls of an engine, and of the front door on its behalf: `POST /engine/<method>`."""

    EMBED = "embed"
    INFERENCE = "inference"
    INFO = "info"
    RERANK = "rerank"
    SUPPORT_METHODS = "support_methods"


# What an engine is asked for that speaks a protocol.
METHOD_OF: Mapping[str, EngineMethod] = {
    CHAT: EngineMethod.INFERENCE,
    EMBED: EngineMethod.EMBED,
    RERANK: EngineMethod.RERANK,
}


def methods(protocol: str) -> list[str]:
    """The sorted methods of an engine that speaks the protocol."""
    return sorted((METHOD_OF[protocol], EngineMethod.INFO, EngineMethod.SUPPORT_METHODS))


class FinishReason(StrEnum):
    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """Where one replica of a name answers."""

    name: Name
    host: Name
    port: Annotated[int, Ge(1), Le(65535)]
    protocol: Name = CHAT

    __pydantic_config__: ClassVar[Mapping[str, Any]] = STRICT

    @property
    def url(self) -> str:
        return f"http://{host_in_url(self.host)}:{self.port}"


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


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """What an engine has to do: requests that run and that wait, and how much of its cache they hold, 0 to 1."""

    running: int
    waiting: int
    cache_usage: float = 0.0


@dataclass(frozen=True, slots=True)
class EmbedOptions:
    """How to make vectors. What is not given is as the model's own files say.

    `dimensions` keeps that many numbers at the front of each vector, for models that were trained for it. `normalize`
    gives every vector the length 1, after that. `truncate` cuts an input that is longer than the model takes, which is
    otherwise refused. `prompt_name` puts one of the model's own prompts before each input, such as `query`.
    """

    dimensions: Annotated[int, Ge(1), Le(65_536)] | None = None
    normalize: bool | None = None
    truncate: bool = False
    prompt_name: Name | None = None

    __pydantic_config__: ClassVar[Mapping[str, Any]] = STRICT


@dataclass(frozen=True, slots=True)
class EmbedRequest:
    """`encoding` says how each vector comes: as numbers, or as the base64 of its float32s, the lowest byte first."""

    model: Name
    inputs: Inputs
    options: EmbedOptions = field(default_factory=EmbedOptions)
    encoding: Literal["float", "base64"] = "float"

    __pydantic_config__: ClassVar[Mapping[str, Any]] = STRICT


@dataclass(frozen=True, slots=True)
class EmbedResponse:
    """A vector for each input, in the order of the inputs. `truncated` of them were cut; `prompt_tokens` are those that
    the model took in."""

    model: str
    vectors: tuple[Sequence[float] | str, ...] = field(repr=False)
    dimensions: int
    prompt_tokens: int
    truncated: int = 0


@dataclass(frozen=True, slots=True)
class RerankOptions:
    """`normalize` brings the scores between 0 and 1, and where it is false they are as the model's last layer gives
    them; by default it is as the model's own files say, and 0 to 1 where they say nothing. `truncate` cuts a document
    with which the query is longer than the model takes, which is otherwise refused."""

    normalize: bool | None = None
    truncate: bool = False

    __pydantic_config__: ClassVar[Mapping[str, Any]] = STRICT


@dataclass(frozen=True, slots=True)
class RerankRequest:
    model: Name
    query: Input
    documents: Inputs
    options: RerankOptions = field(default_factory=RerankOptions)

    __pydantic_config__: ClassVar[Mapping[str, Any]] = STRICT


@dataclass(frozen=True, slots=True)
class RerankResponse:
    """How well each document answers the query, in the order of the documents: more is better. `truncated` of them were
    cut; `prompt_tokens` are those that the model took in, the query's once for each document."""

    model: str
    scores: tuple[float, ...]
    prompt_tokens: int
    truncated: int = 0


@dataclass(frozen=True, slots=True)
class ServerResponse:
    """The envelope of every answer, as it is shown to people."""

    state: Literal["ok", "error"]
    msg: Any


def host_in_url(host: str) -> str:
    """The host as URLs write it: IPv6 addresses in brackets."""
    return f"[{host}]" if ":" in host else host


@cache
def _field_names(cls: Any) -> frozenset[str]:
    return frozenset(f.name for f in dataclasses.fields(cls))


def from_json(cls: type[Record], data: Mapping[str, Any]) -> Record:
    """Fills the dataclass `cls` from decoded JSON; fields that `cls` does not know are additions, and ignored."""
    known = _field_names(cls)  # type: ignore[arg-type]  # a class is hashable
    return cls(
        **{key: tuple(value) if isinstance(value, list) else value for key, value in data.items() if key in known}
    )


def to_json(record: Any) -> dict[str, Any]:
    """The dataclass as plain data. A field that has a default and is None is left out; required fields always stand."""
    return {
        name: value if type(value) in _PLAIN else _plain(value)
        for name, has_default in _rendered_fields(type(record))  # type: ignore[arg-type]  # a class is hashable
        if (value := getattr(record, name)) is not None or not has_default
    }


_PLAIN = (str, int, bool, float, type(None))


@cache
def _rendered_fields(cls: Any) -> tuple[tuple[str, bool], ...]:
    """The name of each field of the dataclass, and whether it has a default."""
    missing = dataclasses.MISSING
    return tuple(
        (f.name, f.default is not missing or f.default_factory is not missing) for f in dataclasses.fields(cls)
    )


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_json(value)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value
