"""Vectors of texts, and how well texts answer a query, in the native protocol: requests and answers as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Le, MaxLen, MinLen

from modelengine.protocol import STRICT, Name

MAX_INPUTS = 2048

# What is taken in whole, one of many; an empty one has nothing to be taken in.
Input = Annotated[str, MinLen(1)]
Inputs = Annotated[tuple[Input, ...], MinLen(1), MaxLen(MAX_INPUTS)]


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
