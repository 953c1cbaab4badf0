"""From the texts of a request to the rows that the model takes: prompts put before, tokenized, none too long.

Runs in the encoding thread, which has a tokenizer of its own, a slice of the texts at a time: between two slices it is
the turn of the other requests.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
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
# Yields between two slices.
InSlices = Generator[None, None, Taken]

# A slice takes some tens of milliseconds. A text that is longer is one of its own.
SLICE_TEXTS = 64
SLICE_CHARACTERS = 65_536


def of_embed(tokenizer: Any, model: LoadedEncoder, request: EmbedRequest) -> InSlices:
    """Raises InvalidRequest for an input that is too long, a prompt or a size that the model does not have."""
    options = request.options
    if options.dimensions is not None and options.dimensions > model.dimensions:
        raise errors.InvalidRequest(
            f"options.dimensions: must be at most {model.dimensions}, the size of the vectors of {request.model!r}, "
            f"got {options.dimensions}"
        )
    prompt = _prompt(model, options.prompt_name)
    prompt_length = _prompt_length(tokenizer, model, _cased(model, prompt)) if prompt else 0
    skipped = 0 if model.pools_prompt else prompt_length
    # Without what is around a text, as sentence-transformers takes it: a line's end would make another vector.
    texts = [_cased(model, (prompt + text).strip()) for text in request.inputs]

    def encode(numbers: Sequence[int], cuts: bool) -> Sequence[Encoded]:
        return _encoded(tokenizer, [texts[i] for i in numbers], None, model.context_length if cuts else None)

    fitting = _Fitting(encode, model.context_length, "inputs", options.truncate, least=skipped + 1)
    yield from fitting.run([len(text) for text in texts])
    normalize = model.normalizes if options.normalize is None else options.normalize
    rows = [_row(one, skipped=skipped, dimensions=options.dimensions, normalize=normalize) for one in fitting.found]
    return Taken(rows, fitting.truncated)


def of_rerank(tokenizer: Any, model: LoadedEncoder, request: RerankRequest) -> InSlices:
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

    fitting = _Fitting(encode, model.context_length, "documents", request.options.truncate)
    yield from fitting.run([len(request.query) + len(document) for document in request.documents])
    return Taken([_row(one, normalize=normalize) for one in fitting.found], fitting.truncated)


class _Fitting:
    """Every text encoded, and how many of them had to be cut. `least` is how many tokens a text must come to."""

    def __init__(self, encode: Encode, limit: int, field: str, truncate: bool, least: int = 1) -> None:
        self.found: list[Encoded] = []
        self.truncated = 0
        self._encode = encode
        self._limit = limit
        self._field = field
        self._truncate = truncate
        self._least = least

    def run(self, lengths: Sequence[int]) -> Generator[None, None, None]:
        """`lengths` are the texts', in characters."""
        for numbers in slices(lengths):
            if numbers.start:
                yield
            self._take(numbers)

    def _take(self, numbers: range) -> None:
        found = dict(zip(numbers, self._encode(numbers, False), strict=True))
        long = [i for i, one in found.items() if len(one["input_ids"]) > self._limit]
        if long and not self._truncate:
            raise errors.InvalidRequest(
                f"{self._field}[{long[0]}]: has {len(found[long[0]]['input_ids'])} tokens, the model takes "
                f"{self._limit}{' of query and document together' if self._field == 'documents' else ''}; truncate "
                "cuts what is too long"
            )
        for i, one in found.items():
            if len(one["input_ids"]) < self._least:
                raise errors.InvalidRequest(f"{self._field}[{i}]: the model's tokenizer makes nothing of it")
        if long:
            found |= zip(long, self._encode(long, True), strict=True)
        self.found += found.values()
        self.truncated += len(long)


def slices(lengths: Sequence[int]) -> Iterator[range]:
    """The numbers of the texts that are tokenized in one go, for texts of so many characters."""
    begin, size = 0, 0
    for i, length in enumerate(lengths):
        if i > begin and (i - begin == SLICE_TEXTS or size + length > SLICE_CHARACTERS):
            yield range(begin, i)
            begin, size = i, 0
        size += length
    yield range(begin, len(lengths))


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


def _prompt_length(tokenizer: Any, model: LoadedEncoder, prompt: str) -> int:
    """How many tokens the prompt takes at the front of a text: without the one that ends a text.

    Raises InvalidRequest where it leaves no room: of a text that is cut nothing would be left.
    """
    tokens = _encoded(tokenizer, [prompt], None, None)[0]["input_ids"]
    if len(tokens) >= model.context_length:
        raise errors.InvalidRequest(
            f"options.prompt_name: the prompt has {len(tokens)} tokens, the model takes {model.context_length} of "
            "prompt and input together"
        )
    ends = (tokenizer.sep_token_id, tokenizer.eos_token_id)
    return len(tokens) - (len(tokens) > 0 and tokens[-1] in ends)


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
