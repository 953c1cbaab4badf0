"""What the description of the API says of these routes: the forms of their answers, which only readers need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from modelengine_api import openapi
from modelengine_api.ollama.operations import STYLE as OLLAMA
from modelengine_api.retrieval import calls


@dataclass(frozen=True, slots=True)
class RetrievalUsage:
    prompt_tokens: int
    total_tokens: int


@dataclass(frozen=True, slots=True)
class Embedding:
    """The embedding is a list of numbers, or base64 of their float32, little-endian."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


@dataclass(frozen=True, slots=True)
class Embeddings:
    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: RetrievalUsage


@dataclass(frozen=True, slots=True)
class Ranked:
    index: int
    relevance_score: float
    document: dict[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Ranking:
    """The best first."""

    id: str
    object: Literal["rerank"]
    model: str
    results: list[Ranked]
    usage: RetrievalUsage


@dataclass(frozen=True, slots=True)
class OllamaEmbeddings:
    model: str
    embeddings: list[list[float]]
    total_duration: int
    load_duration: int
    prompt_eval_count: int


@dataclass(frozen=True, slots=True)
class OllamaEmbedding:
    embedding: list[float]


def _of_model(body: Any, answer: Any, style: openapi.Style) -> dict[str, Any]:
    return openapi.operation(body=body, answer=answer, refusals=openapi.OF_A_MODEL, style=style)


EMBEDDINGS = _of_model(calls.EmbeddingsCall, Embeddings, openapi.OPENAI)
RERANK = _of_model(calls.RerankCall, Ranking, openapi.OPENAI)
OLLAMA_EMBED = _of_model(calls.EmbedCall, OllamaEmbeddings, OLLAMA)
OLLAMA_EMBEDDINGS = _of_model(calls.OldEmbeddingsCall, OllamaEmbedding, OLLAMA)
