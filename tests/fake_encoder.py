"""A model that makes vectors or scores without weights: what it gives can be read off the text."""

from __future__ import annotations

import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from modelengine.protocol import EMBED
from modelengine_runtime.batches import Result, Row
from modelengine_runtime.encoder_model import LoadedEncoder

DIMENSIONS = 4


class Bytes:
    """A token is a byte, and a 0 ends a text; a pair has the first text, a 0, and the second."""

    sep_token_id = 0
    eos_token_id = None

    def __call__(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None, *, max_length: int | None = None, **_: Any
    ) -> dict[str, list[list[int]]]:
        seconds = [b""] * len(texts) if pairs is None else [b"\0" + pair.encode() for pair in pairs]
        rows = [text.encode() + second for text, second in zip(texts, seconds, strict=True)]
        return {"input_ids": [[*(row if max_length is None else row[: max_length - 1]), 0] for row in rows]}


@dataclass
class FakeEncoder:
    """A vector is the number of tokens, the first, the last but the 0, and 1; a score is the number of tokens. A text
    with `!` makes every step fail that it is part of."""

    protocol: str = EMBED
    pause_s: float = 0.0
    steps: list[list[int]] = field(default_factory=list)

    def compute(self, rows: Sequence[Row]) -> Sequence[Result]:
        time.sleep(self.pause_s)
        self.steps.append([len(row.token_ids) for row in rows])
        if any(ord("!") in row.token_ids for row in rows):
            raise ValueError("the model broke on this text")
        if self.protocol == EMBED:
            return [_vector(row) for row in rows]
        return [float(len(row.token_ids)) for row in rows]

    def loaded(self, context_length: int = 100) -> LoadedEncoder:
        return LoadedEncoder(
            protocol=self.protocol,
            runner=self,
            tokenizer=Bytes(),
            architecture="Fake",
            parameters=0,
            context_length=context_length,
            dtype="float32",
            device="cpu",
            normalizes=False,
            dimensions=DIMENSIONS if self.protocol == EMBED else 0,
        )


def _vector(row: Row) -> bytes:
    numbers = [float(len(row.token_ids)), float(row.token_ids[0]), float(row.token_ids[-2]), 1.0][: row.dimensions]
    if row.normalize:
        length = sum(number**2 for number in numbers) ** 0.5
        numbers = [number / length for number in numbers]
    return array("f", numbers).tobytes()
