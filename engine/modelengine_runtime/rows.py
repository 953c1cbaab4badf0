"""From the texts of a request to the rows that the model takes: prompts put before, tokenized, none too long.

Runs in the encoding thread, which has a tokenizer of its own.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelengine import errors
from modelengine.vectors import EmbedRequest, RerankRequest
from modelengine_runtime.batches import Row
from modelengine_runtime.encoder_model import LoadedEncoder


@dataclass(frozen=True, slots=True)
class Taken:
    """The rows of a request; `truncated` of them were cut."""

    rows: Sequence[Row]
    truncated: int

    @property
    def tokens(self) -> int:
        return sum(len(row.token_ids) for row in self.rows)


Encoded = Mapping[str, Sequence[int]]
# Encodes the texts with these numbers, each cut to the model's length or not.
Encode = Callable[[Sequence[int], bool], Sequence[Encoded]]


def of_embed(tokenizer: Any, model: LoadedEncoder, request: EmbedRequest) -> Taken:
    """Raises InvalidRequest for an input that is too long, a prompt or a size that the model does not have."""
    options = request.options
    if options.dimensions is not None and options.dimensions > model.dimensions:
        raise errors.InvalidRequest(
            f"options.dimensions: must be at most {model.dimensions}, the size of the vectors of {request.model!r}, "
            f"got {options.dimensions}"
        )
    prompt = _prompt(model, options.prompt_name)
    # Without what is around a text, as sentence-transformers takes it: a line's end would make another vector.
    texts = [_cased(model, (prompt + text).strip()) for text in request.inputs]

    def encode(numbers: Sequence[int], cuts: bool) -> Sequence[Encoded]:
        return _encoded(tokenizer, [texts[i] for i in numbers], None, model.context_length if cuts else None)

    found, truncated = _fitting(encode, len(texts), model.context_length, "inputs", options.truncate)
    skipped = 0 if model.pools_prompt or not prompt else _prompt_length(tokenizer, _cased(model, prompt))
    normalize = model.normalizes if options.normalize is None else options.normalize
    rows = [_row(one, skipped=skipped, dimensions=options.dimensions, normalize=normalize) for one in found]
    return Taken(rows, truncated)


def of_rerank(tokenizer: Any, model: LoadedEncoder, request: RerankRequest) -> Taken:
    """Raises InvalidRequest for a query that leaves no room, and for a document that is too long with it."""
    query_length = len(_encoded(tokenizer, [request.query], None, None)[0]["input_ids"])
    if query_length >= model.context_length:
        raise errors.InvalidRequest(
            f"query: has {query_length} tokens, {request.model!r} takes {model.context_length} of query and document "
            "together"
        )
    normalize = model.normalizes if request.options.normalize is None else request.options.normalize

    def encode(numbers: Sequence[int], cuts: bool) -> Sequence[Encoded]:
        documents = [request.documents[i] for i in numbers]
        limit = model.context_length if cuts else None
        return _encoded(tokenizer, [request.query] * len(documents), documents, limit)

    found, truncated = _fitting(
        encode, len(request.documents), model.context_length, "documents", request.options.truncate
    )
    return Taken([_row(one, normalize=normalize) for one in found], truncated)


def _fitting(
    encode: Encode, count: int, limit: int, field: str, truncate: bool
) -> tuple[Sequence[Mapping[str, Sequence[int]]], int]:
    """Every text encoded, and how many of them had to be cut."""
    found = list(encode(range(count), False))
    long = [i for i, one in enumerate(found) if len(one["input_ids"]) > limit]
    if long and not truncate:
        first = long[0]
        raise errors.InvalidRequest(
            f"{field}[{first}]: has {len(found[first]['input_ids'])} tokens, the model takes {limit}"
            f"{' of query and document together' if field == 'documents' else ''}; truncate cuts what is too long"
        )
    for i, one in enumerate(found):
        if not len(one["input_ids"]):
            raise errors.InvalidRequest(f"{field}[{i}]: the model's tokenizer makes nothing of it")
    if long:
        for i, one in zip(long, encode(long, True), strict=True):
            found[i] = one
    return found, len(long)


def _prompt(model: LoadedEncoder, name: str | None) -> str:
    name = name or model.default_prompt
    if name is None:
        return ""
    if name not in model.prompts:
        known = ", ".join(sorted(model.prompts)) or "no prompts"
        raise errors.InvalidRequest(f"options.prompt_name: the model has {known}, got {name!r}")
    return model.prompts[name]


def _cased(model: LoadedEncoder, text: str) -> str:
    return text.lower() if model.lowercases else text


def _prompt_length(tokenizer: Any, prompt: str) -> int:
    """How many tokens the prompt takes at the front of a text: without the one that ends a text."""
    tokens = tokenizer(prompt)["input_ids"]
    ends = (tokenizer.sep_token_id, tokenizer.eos_token_id)
    return len(tokens) - (tokens[-1] is not None and tokens[-1] in ends)


def _encoded(
    tokenizer: Any, texts: Sequence[str], pairs: Sequence[str] | None, limit: int | None
) -> Sequence[Mapping[str, Sequence[int]]]:
    """`limit` cuts: of a pair the second text."""
    try:
        found = tokenizer(
            list(texts),
            None if pairs is None else list(pairs),
            truncation=False if limit is None else ("longest_first" if pairs is None else "only_second"),
            max_length=limit,
            padding=False,
            return_attention_mask=False,
        )
    except Exception as refused:  # The library's own tokenizers raise anything, a bare Exception too.
        raise errors.InvalidRequest(f"the model's tokenizer can't take the text: {refused}") from refused
    keys = [key for key in ("input_ids", "token_type_ids") if key in found]
    return [{key: found[key][i] for key in keys} for i in range(len(texts))]


def _row(
    encoded: Mapping[str, Sequence[int]], *, skipped: int = 0, dimensions: int | None = None, normalize: bool
) -> Row:
    types = encoded.get("token_type_ids")
    return Row(
        array("i", encoded["input_ids"]),
        None if types is None else array("i", types),
        skipped,
        dimensions,
        normalize,
    )
