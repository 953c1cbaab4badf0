"""Rerank as Cohere's and Jina's clients ask for it and read it, from and to the native protocol. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelengine.vectors import RerankOptions, RerankRequest
from modelengine_api.invalid import refused
from modelengine_api.retrieval.calls import RerankCall


def request(call: RerankCall) -> RerankRequest:
    """Raises InvalidRequest for a document without a text."""
    return RerankRequest(call.model, call.query, _texts(call), RerankOptions(truncate=call.truncate))


def answer(call: RerankCall, native: Mapping[str, Any], identifier: str) -> dict[str, Any]:
    """The best first, as many as were asked for; of equal ones the first."""
    scores = native["scores"]
    order = sorted(range(len(scores)), key=lambda i: -scores[i])[: call.top_n]
    texts = _texts(call)
    tokens = native["prompt_tokens"]
    return {
        "id": identifier,
        "object": "rerank",
        "model": call.model,
        "results": [
            {
                "index": i,
                "relevance_score": scores[i],
                **({"document": {"text": texts[i]}} if call.return_documents else {}),
            }
            for i in order
        ],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _texts(call: RerankCall) -> tuple[str, ...]:
    return tuple(one if isinstance(one, str) else _text(one, i) for i, one in enumerate(call.documents))


def _text(document: Mapping[str, Any], index: int) -> str:
    text = document.get("text")
    if not isinstance(text, str) or not text:
        raise refused(f"documents[{index}].text", "is required, a string of at least 1 character")
    return text
