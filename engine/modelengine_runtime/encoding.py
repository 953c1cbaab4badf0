"""The engine that makes vectors or scores, as the HTTP side sees it: a request in, its answer out, on the event loop.

Joins a loaded model, its step thread and the tokenizing. A request that is cancelled leaves the queue.
"""

from __future__ import annotations

import asyncio
import copy
from base64 import b64encode
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from modelengine import errors, wire
from modelengine.protocol import EMBED
from modelengine.vectors import EmbedRequest, RerankRequest
from modelengine_runtime import rows
from modelengine_runtime.batches import Job, Outcome, Result
from modelengine_runtime.encode_loop import EncodeLoop
from modelengine_runtime.encoder_model import LoadedEncoder
from modelengine_runtime.rows import Taken

# Of all requests that are in work or wait: what their tokens take in memory must have an end.
MAX_TOKENS = 4_000_000


@dataclass(frozen=True, slots=True)
class EncodingLimits:
    """So many requests may be in work and so many wait; a step has at most `step_tokens`, with what fills them up."""

    max_running: int
    max_waiting: int
    step_tokens: int


class EncodingEngine:
    def __init__(self, model: LoadedEncoder, limits: EncodingLimits) -> None:
        self.model = model
        self.limits = limits
        self.loop = EncodeLoop(model.runner, limits.step_tokens)
        self.loop.start()
        self._open = 0
        self._open_tokens = 0
        # Tokenizing has a thread and a tokenizer of its own: the library's tokenizers are not safe to share.
        self._encoder = ThreadPoolExecutor(1, thread_name_prefix="encode")
        self._tokenizer = copy.deepcopy(model.tokenizer)

    @property
    def context_length(self) -> int:
        return self.model.context_length

    @property
    def details(self) -> dict[str, Any]:
        """What `info` says besides what it says of every model."""
        if self.model.protocol != EMBED:
            return {"normalizes": self.model.normalizes}
        return {
            "dimensions": self.model.dimensions,
            "normalizes": self.model.normalizes,
            "prompt_names": sorted(self.model.prompts),
        }

    async def embed(self, request: EmbedRequest) -> dict[str, Any]:
        """An EmbedResponse as plain data. Raises InvalidRequest, Busy, or Unavailable for a dead engine."""
        taken, results = await self._answer(lambda: rows.of_embed(self._tokenizer, self.model, request))
        vectors = [vector for vector in results if isinstance(vector, bytes)]
        encoded = [b64encode(vector).decode("ascii") for vector in vectors]
        return {
            "model": request.model,
            "vectors": encoded if request.encoding == "base64" else [wire.decode_vector(one) for one in encoded],
            "dimensions": request.options.dimensions or self.model.dimensions,
            "prompt_tokens": taken.tokens,
            "truncated": taken.truncated,
        }

    async def rerank(self, request: RerankRequest) -> dict[str, Any]:
        """A RerankResponse as plain data. Raises as `embed` does."""
        taken, scores = await self._answer(lambda: rows.of_rerank(self._tokenizer, self.model, request))
        return {
            "model": request.model,
            "scores": list(scores),
            "prompt_tokens": taken.tokens,
            "truncated": taken.truncated,
        }

    async def warm_up(self, name: str) -> None:
        """One short answer."""
        if self.model.protocol == EMBED:
            await self.embed(EmbedRequest(name, ("hello",)))
        else:
            await self.rerank(RerankRequest(name, "hello", ("hello",)))

    def stop(self) -> None:
        """Ends the step thread; what is still to do fails with Unavailable."""
        self.loop.stop()
        self._encoder.shutdown()

    async def _answer(self, tokenize: Callable[[], Taken]) -> tuple[Taken, Sequence[Result]]:
        if not self.loop.is_alive:
            raise errors.Unavailable("the engine is stopping")
        # Counted from here on, since tokenizing may take its time too.
        if self._open >= self.limits.max_running + self.limits.max_waiting:
            raise errors.Busy(f"the queue is full: {self._open} requests are in work or wait", retry_after_s=1.0)
        self._open += 1
        try:
            taken = await asyncio.get_running_loop().run_in_executor(self._encoder, tokenize)
            if self._open_tokens and self._open_tokens + taken.tokens > MAX_TOKENS:
                raise errors.Busy(
                    f"the queue is full: it has {self._open_tokens} tokens, with the request's {taken.tokens} more "
                    f"than {MAX_TOKENS}",
                    retry_after_s=1.0,
                )
            self._open_tokens += taken.tokens
            try:
                return taken, await self._results(taken)
            finally:
                self._open_tokens -= taken.tokens
        finally:
            self._open -= 1

    async def _results(self, taken: Taken) -> Sequence[Result]:
        event_loop = asyncio.get_running_loop()
        outcome: asyncio.Future[Outcome] = event_loop.create_future()
        job = Job(taken.rows, lambda found: _post(event_loop, outcome, found))
        self.loop.submit(job)
        try:
            found = await outcome
        except asyncio.CancelledError:
            self.loop.abort(job)
            raise
        if isinstance(found, errors.ModelEngineError):
            raise found
        return found


def _post(event_loop: asyncio.AbstractEventLoop, future: asyncio.Future[Outcome], found: Outcome) -> None:
    # Nobody listens any more once the server's event loop is gone.
    if not event_loop.is_closed():
        event_loop.call_soon_threadsafe(lambda: None if future.done() else future.set_result(found))
