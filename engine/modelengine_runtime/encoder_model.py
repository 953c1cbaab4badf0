"""A loaded model that makes vectors or scores, as the rest of the engine sees it. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from modelengine_runtime.encode_loop import Runner


@dataclass(frozen=True, slots=True)
class LoadedEncoder:
    """`protocol` is embed or rerank. `context_length` is the most tokens of one text, or of a query and a document.
    `normalizes` is what is done with a vector or score unless a request says otherwise; `dimensions` is a vector's
    size, 0 of what makes scores."""

    protocol: str
    runner: Runner
    tokenizer: Any
    architecture: str
    parameters: int
    context_length: int
    dtype: str
    device: str
    normalizes: bool
    dimensions: int = 0
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    pools_prompt: bool = True
    lowercases: bool = False
