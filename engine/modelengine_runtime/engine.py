"""The engine as the HTTP side sees it: a request in, events out, on the event loop.

Joins a loaded model, the step thread and the prompt encoding. Closing the event stream early aborts the request.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import secrets
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from modelengine import errors
from modelengine.protocol import MAX_SEED, ChatRequest
from modelengine_api import calls
from modelengine_runtime import prompt, sampling
from modelengine_runtime.loop import StepLoop
from modelengine_runtime.model import LoadedModel
from modelengine_runtime.scheduler import Limits, Scheduler
from modelengine_runtime.sequence import ChatSequence, End, Event, Failure
from modelengine_runtime.text import AnswerText


@dataclass(frozen=True, slots=True)
class Accepted:
    """A request that is queued. `events` ends with an End, or raises the error that ended the request."""

    prompt_length: int
    seed: int
    events: AsyncGenerator[Event]


class Engine:
    def __init__(self, model: LoadedModel, limits: Limits) -> None:
        self.model = model
        self.limits = limits
        model.runner.reserve(limits.kv_blocks)
        self.loop = StepLoop(Scheduler(limits), model.runner)
        self.loop.start()
        self._ids = itertools.count()
        # Encoding has a thread and a tokenizer of its own: the library's tokenizers are not safe to share.
        self._encoder = ThreadPoolExecutor(1, thread_name_prefix="encode")
        self._encode_tokenizer = copy.deepcopy(model.tokenizer)

    async def accept(self, request: ChatRequest) -> Accepted:
        """Checks, encodes and queues the request. Raises InvalidRequest, or Unavailable for a dead engine."""
        if not self.loop.is_alive:
            raise errors.Unavailable("the engine is stopping")
        tokens = await asyncio.get_running_loop().run_in_executor(
            self._encoder, prompt.encode, self._encode_tokenizer, request
        )
        limit = prompt.answer_limit(request, len(tokens), self.model.context_length)
        resumed = prompt.resumed_tokens(request, limit, self.model.vocabulary)
        seed = request.options.seed
        seed = secrets.randbelow(MAX_SEED) if seed is None else seed
        return Accepted(len(tokens), seed, self._events(request, tokens, resumed, limit, seed))

    def stop(self) -> None:
        """Ends the step thread; what still runs fails with Unavailable."""
        self.loop.stop()
        self._encoder.shutdown()

    async def _events(
        self, request: ChatRequest, tokens: Sequence[int], resumed: Sequence[int], limit: int, seed: int
    ) -> AsyncGenerator[Event]:
        mailbox: asyncio.Queue[Event] = asyncio.Queue()
        event_loop = asyncio.get_running_loop()
        sequence = ChatSequence(
            id=next(self._ids),
            prompt=tokens,
            limit=limit,
            sampling=sampling.resolve(request.options, self.model.generation_defaults, seed),
            stop_tokens=self.model.stop_tokens,
            text=AnswerText(self.model.decode, request.options.stop_strings),
            deliver=lambda event: _post(event_loop, mailbox, event),
            request_id=calls.request_id(),
        )
        if resumed:
            # Their text is followed off the step thread, which others wait for.
            end = await event_loop.run_in_executor(self._encoder, sequence.resume, resumed)
            if end is not None:
                yield end
                return
        self.loop.submit(sequence)
        try:
            while True:
                event = await mailbox.get()
                if isinstance(event, Failure):
                    raise event.error
                yield event
                if isinstance(event, End):
                    return
        finally:
            self.loop.abort(sequence)


def _post(event_loop: asyncio.AbstractEventLoop, mailbox: asyncio.Queue[Event], event: Event) -> None:
    # Nobody listens any more once the server's event loop is gone.
    if not event_loop.is_closed():
        event_loop.call_soon_threadsafe(mailbox.put_nowait, event)
