"""What foreign clients send to have vectors or ranks, as records; `routes.py` reads bodies into them.

They take fields that nobody knows, as the servers they are made for do: those end up beside the fields, and `ignored`
names them. So these records have no slots. Pure.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Le, MaxLen, MinLen
from pydantic import BeforeValidator

from modelengine.protocol import Name
from modelengine.vectors import MAX_INPUTS, Input
from modelengine_api.ignored import OPEN
from modelengine_api.invalid import refused
from modelengine_api.ollama.calls import KeepAlive


def _no_token_ids(given: Any) -> Any:
    """Raises InvalidRequest for token ids. They would be of a tokenizer that the client guessed at."""
    first = given[0] if isinstance(given, list) and given else None
    if isinstance(first, list) and first:
        first = first[0]
    if isinstance(first, int) and not isinstance(first, bool):
        rule = (
            "token ids are not taken, since only the model's own tokenizer is right; send a text or a list of texts "
            "(LangChain's OpenAIEmbeddings does with check_embedding_ctx_length=False)"
        )
        raise refused("input", rule)
    return given


Dimensions = Annotated[int, Ge(1), Le(65_536)]
Texts = Annotated[
    Input | Annotated[list[Input], MinLen(1), MaxLen(MAX_INPUTS)],
    BeforeValidator(_no_token_ids),
]
# Ollama's clients send none to see whether the model is there.
TextsIfAny = Annotated[str | Annotated[list[Input], MaxLen(MAX_INPUTS)], BeforeValidator(_no_token_ids)]


@dataclass(frozen=True)
class EmbeddingsCall:
    """OpenAI's. `prompt_name` and `truncate` are not: see EmbedOptions."""

    model: Name
    input: Texts
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Dimensions | None = None
    user: str | None = None
    prompt_name: Name | None = None
    truncate: bool = False

    __pydantic_config__: ClassVar[Mapping[str, Any]] = OPEN


@dataclass(frozen=True)
class EmbedCall:
    """Ollama's. It cuts what is too long unless it is told not to."""

    model: Name
    input: TextsIfAny = ""
    truncate: bool = True
    dimensions: Dimensions | None = None
    options: dict[str, Any] | None = None
    keep_alive: KeepAlive | None = None

    __pydantic_config__: ClassVar[Mapping[str, Any]] = OPEN


@dataclass(frozen=True)
class OldEmbeddingsCall:
    """Ollama's older one, for a single text."""

    model: Name
    prompt: str = ""
    options: dict[str, Any] | None = None
    keep_alive: KeepAlive | None = None

    __pydantic_config__: ClassVar[Mapping[str, Any]] = OPEN


@dataclass(frozen=True)
class RerankCall:
    """Cohere's and Jina's; a document is a text, or an object with a `text`. As theirs it cuts documents that are too
    long; `truncate` false, which is ours, refuses them."""

    model: Name
    query: Input
    documents: Annotated[tuple[Input | dict[str, Any], ...], MinLen(1), MaxLen(MAX_INPUTS)]
    top_n: Annotated[int, Ge(1)] | None = None
    return_documents: bool = False
    truncate: bool = True

    __pydantic_config__: ClassVar[Mapping[str, Any]] = OPEN


Call = EmbeddingsCall | EmbedCall | OldEmbeddingsCall | RerankCall
# What is known and has no effect: who asks, and how the server should hold the model.
WITHOUT_EFFECT = ("user", "keep_alive")


def ignored(call: Call) -> Iterator[str]:
    """The names of all that the call has and that has no effect."""
    known = {field.name for field in dataclasses.fields(call)}
    for name, value in vars(call).items():
        if value is not None and (name not in known or name in WITHOUT_EFFECT):
            yield name
        elif name == "options" and value:
            yield from (f"options.{option}" for option in value)
        elif name == "documents":
            yield from (f"documents.{key}" for one in value if isinstance(one, dict) for key in one if key != "text")
