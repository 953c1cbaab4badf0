"""Clients for models that find texts: `EmbedClient` makes vectors of them, `RerankClient` says how well they answer a
query; and their asyncio twins. The calls themselves are in `flows.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelengine import flows
from modelengine.aio import AsyncModelClient
from modelengine.chat_request import record
from modelengine.client import ModelClient
from modelengine.protocol import EMBED, RERANK
from modelengine.vectors import EmbedOptions, EmbedRequest, EmbedResponse, RerankOptions, RerankRequest, RerankResponse

GivenEmbedOptions = EmbedOptions | Mapping[str, Any] | None
GivenRerankOptions = RerankOptions | Mapping[str, Any] | None


class EmbedClient(ModelClient):
    """Finds a model by name and has it make vectors, on any of its replicas; `relayed` as in `ModelClient`.

    with EmbedClient() as client:
        vector, *_ = client.embed("minilm", ["hello"]).vectors
    """

    protocol = EMBED

    def embed(
        self, name: str, inputs: str | Sequence[str], *, options: GivenEmbedOptions = None, timeout: float = 600.0
    ) -> EmbedResponse:
        """A vector for each input, all from one replica.

        Raises NotFound for an unknown name, InvalidRequest for a bad field or an input that is too long, Busy when
        every replica is full.
        """
        return self._run(flows.embed(self.base_url, _embed_request(name, inputs, options), timeout, self._way))


class AsyncEmbedClient(AsyncModelClient):
    """The asyncio twin of `EmbedClient`."""

    protocol = EMBED

    async def embed(
        self, name: str, inputs: str | Sequence[str], *, options: GivenEmbedOptions = None, timeout: float = 600.0
    ) -> EmbedResponse:
        """As `EmbedClient.embed`."""
        return await self._run(flows.embed(self.base_url, _embed_request(name, inputs, options), timeout, self._way))


class RerankClient(ModelClient):
    """Finds a model by name and has it score documents, on any of its replicas; `relayed` as in `ModelClient`.

    with RerankClient() as client:
        scores = client.rerank("bge", "where does the cat sit?", ["on the mat", "in the sea"]).scores
    """

    protocol = RERANK

    def rerank(
        self,
        name: str,
        query: str,
        documents: Sequence[str],
        *,
        options: GivenRerankOptions = None,
        timeout: float = 600.0,
    ) -> RerankResponse:
        """A score for each document, in the order of the documents. Raises as `EmbedClient.embed` does."""
        request = _rerank_request(name, query, documents, options)
        return self._run(flows.rerank(self.base_url, request, timeout, self._way))


class AsyncRerankClient(AsyncModelClient):
    """The asyncio twin of `RerankClient`."""

    protocol = RERANK

    async def rerank(
        self,
        name: str,
        query: str,
        documents: Sequence[str],
        *,
        options: GivenRerankOptions = None,
        timeout: float = 600.0,
    ) -> RerankResponse:
        """As `RerankClient.rerank`."""
        request = _rerank_request(name, query, documents, options)
        return await self._run(flows.rerank(self.base_url, request, timeout, self._way))


def _embed_request(name: str, inputs: str | Sequence[str], options: GivenEmbedOptions) -> EmbedRequest:
    texts = (inputs,) if isinstance(inputs, str) else tuple(inputs)
    return EmbedRequest(name, texts, EmbedOptions() if options is None else record(EmbedOptions, options, "options"))


def _rerank_request(name: str, query: str, documents: Sequence[str], options: GivenRerankOptions) -> RerankRequest:
    chosen = RerankOptions() if options is None else record(RerankOptions, options, "options")
    return RerankRequest(name, query, tuple(documents), chosen)
