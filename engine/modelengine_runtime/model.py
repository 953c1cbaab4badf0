"""A loaded model as the rest of the engine sees it: something that runs chunks, a tokenizer, and facts. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from modelengine_runtime.grammars import Grammars
from modelengine_runtime.loop import Runner
from modelengine_runtime.parsing import AnswerParser
from modelengine_runtime.text import Decode

# What stands in a text for bytes that are no character.
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class Tokenizer(Protocol):
    """The call of a transformers tokenizer that makes a prompt."""

    def apply_chat_template(
        self,
        conversation: list[dict[str, Any]],
        *,
        tools: list[dict[str, Any]] | None,
        add_generation_prompt: bool,
        tokenize: bool,
        return_dict: bool,
        **variables: Any,
    ) -> Any: ...


class Parsers(Protocol):
    """Tells thoughts and calls from content, as this model marks them."""

    @property
    def calls(self) -> Mapping[str, Any] | None:
        """How a response template says that calls are marked and written; None for a model that makes none."""
        ...

    def parser(
        self, prompt: Sequence[int], tools: Sequence[Mapping[str, Any]], has_format: bool = False
    ) -> AnswerParser | None:
        """For the answer to this prompt; None where all of it is content. `has_format`: it either is JSON, which may
        have marks in its texts, or begins with a call."""
        ...


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """`decode` writes tokens as text, without the special ones that mean nothing to `parsers`, which is None where
    nobody knows how the model marks thoughts and calls. `grammars` is None where nobody can read its tokenizer.
    `stop_tokens` end an answer; `generation_defaults` is what the checkpoint recommends for sampling. `vocabulary` is
    the number of its tokens, None where that is not known. `has_prefix_cache`: the runner reads a sequence's cache
    through its block table, so that sequences may share."""

    runner: Runner
    tokenizer: Tokenizer
    decode: Decode
    architecture: str
    parameters: int
    context_length: int
    dtype: str
    device: str
    stop_tokens: frozenset[int]
    generation_defaults: Mapping[str, Any]
    kv_bytes_per_token: int
    vocabulary: int | None = None
    has_prefix_cache: bool = False
    parsers: Parsers | None = None
    grammars: Grammars | None = None

    def spell(self, token: int) -> tuple[str, bytes | None]:
        """The token's text, and its bytes where they are known."""
        if self.grammars is not None and self.grammars.vocabulary.is_read:
            return self.grammars.vocabulary.spell(token)
        text = self.decode([token])
        # A piece of a character, and a special token, can't be told by their text.
        return text, None if REPLACEMENT in text or not text else text.encode()
