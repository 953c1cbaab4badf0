"""Conversations as tensors: tokenised, sorted by length, and cut into batches of about the same number of tokens.

Rows of about equal length waste little on padding and need no mask, and every conversation starts at position 0 as it
does when it is served. Packing several into one row would save no time and let them see each other.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from random import Random

import torch
from demo import generate
from demo.conversation import Conversation, segments
from tokenizers import Tokenizer
from torch import Tensor

CONTEXT = 1024
POOL = 1024
IGNORED = -100


@dataclass(frozen=True)
class Batch:
    """Input ids, and for each place the id that should come next, or IGNORED where the assistant did not write it."""

    ids: Tensor
    targets: Tensor
    tokens: int
    pool: int


def tokenise(conversation: Conversation, tokenizer: Tokenizer) -> tuple[list[int], list[bool]]:
    """The ids of a conversation, and which of them the assistant wrote."""
    ids: list[int] = []
    written: list[bool] = []
    for text, by_assistant in segments(conversation):
        piece = tokenizer.encode(text, add_special_tokens=False).ids
        ids += piece
        written += [by_assistant] * len(piece)
    return ids, written


def stream(seed: int, tokenizer: Tokenizer, tokens_per_batch: int, skip: int = 0) -> Iterator[Batch]:
    """Endless batches. A resumed run skips the pools it has seen."""
    for pool in count(skip):
        rows = [tokenise(generate.conversation(seed, pool * POOL + i), tokenizer) for i in range(POOL)]
        groups = list(
            _groups(
                sorted((row for row in rows if len(row[0]) <= CONTEXT), key=lambda row: len(row[0])), tokens_per_batch
            )
        )
        Random(f"{seed}/{pool}").shuffle(groups)
        yield from (_batch(group, pool) for group in groups)


def _groups(rows: list[tuple[list[int], list[bool]]], tokens: int) -> Iterator[list[tuple[list[int], list[bool]]]]:
    """Neighbours in length together, as many as fit when padded to the longest."""
    group: list[tuple[list[int], list[bool]]] = []
    for row in rows:
        if group and len(row[0]) * (len(group) + 1) > tokens:
            yield group
            group = []
        group.append(row)
    yield group


def _batch(rows: list[tuple[list[int], list[bool]]], pool: int) -> Batch:
    length = max(len(ids) for ids, _ in rows)
    inputs = torch.zeros(len(rows), length - 1, dtype=torch.long)
    targets = torch.full((len(rows), length - 1), IGNORED, dtype=torch.long)
    for i, (ids, written) in enumerate(rows):
        inputs[i, : len(ids) - 1] = torch.tensor(ids[:-1])
        targets[i, : len(ids) - 1] = torch.tensor(
            [token if own else IGNORED for token, own in zip(ids[1:], written[1:], strict=True)]
        )
    return Batch(inputs, targets, sum(len(ids) for ids, _ in rows), pool)
