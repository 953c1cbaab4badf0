"""Rerank as Cohere's and Jina's clients ask for it and read it, from and to the native protocol. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelengine.protocol import RerankOptions, RerankRequest
from modelengine_api.retrieval.calls import RerankCall, TextDocument


def request(call: RerankCall) -> RerankRequest:
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
    return tuple(one.text if isinstance(one, TextDocument) else one for one in call.documents)
