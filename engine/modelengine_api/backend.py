"""What answers behind the APIs of this package: an engine its own model, a front door every model it knows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from modelengine.chats import ChatRequest
from modelengine.protocol import EngineLoad
from modelengine.vectors import EmbedRequest, RerankRequest


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A name that is served, by `replicas` that are ready; where there are none, `why_not` says what callers hear.
    `load` is what those that report theirs have to do together, where anybody follows that."""

    name: str
    protocol: str
    replicas: int
    why_not: str | None = None
    load: EngineLoad | None = None


class Backend(Protocol):
    """What answers. Every method may raise a ModelEngineError, which becomes the HTTP answer."""

    def models(self) -> Sequence[ModelCard]:
        """Every name that can be asked for, those without a ready replica too, sorted by name."""
        ...

    def stream(self, request: ChatRequest) -> AsyncIterator[bytes]:
        """The answer as rendered lines: envelopes of ChatChunk, each with its newline (`wire.encode_line`).

        A failure before the first line is an HTTP error, one after it the last line. When the client leaves, the
        iterator is cancelled and closed: its `finally` is where the request is aborted.
        """
        ...

    async def whole(self, request: ChatRequest) -> Mapping[str, Any]:
        """The whole answer, a ChatResponse as plain data. Cancelled when the client leaves."""
        ...

    async def embed(self, request: EmbedRequest) -> Mapping[str, Any]:
        """An EmbedResponse as plain data. Raises InvalidRequest for a model that speaks another protocol, as `rerank`
        and the chats do. Cancelled when the client leaves."""
        ...

    async def rerank(self, request: RerankRequest) -> Mapping[str, Any]:
        """A RerankResponse as plain data."""
        ...

    async def info(self, model: str | None) -> Mapping[str, Any]:
        """Facts about the model; None is asked of a server that has only one. Raises NotFound for another's name."""
        ...

    async def support_methods(self, model: str | None) -> Sequence[str]:
        """The sorted methods of the model's engine. Raises NotFound as `info` does."""
        ...
