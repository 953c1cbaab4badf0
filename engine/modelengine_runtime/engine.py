"""The engine as the HTTP side sees it: a request in, events out, on the event loop.

Joins a loaded model, the step thread and the prompt encoding. Closing the event stream early aborts the request.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import logging
import secrets
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from modelengine import errors
from modelengine.chats import MAX_SEED, ChatOptions, ChatRequest, FinishReason, Message
from modelengine_api import calls, chat_checks
from modelengine_kernels.layout import BLOCK_TOKENS
from modelengine_runtime import grammars, prompt, sampling, tool_grammar
from modelengine_runtime.grammars import Grammar
from modelengine_runtime.loop import StepLoop
from modelengine_runtime.model import LoadedModel
from modelengine_runtime.parsing import AnswerParser
from modelengine_runtime.sampling import Guide
from modelengine_runtime.scheduler import Limits, Scheduler
from modelengine_runtime.sequence import ChatSequence, End, Event, Failure, Usage
from modelengine_runtime.text import AnswerText

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Accepted:
    """A request that is queued. `events` ends with an End, or raises the error that ended the request; where it is
    left before, `finish` says that it is through, and not given up. `usage` says what it has taken so far.

    `parser` knows what the prompt and the tokens of a `resume` say; what comes in `events` it is still to be told.
    """

    prompt_length: int
    seed: int
    events: AsyncGenerator[Event]
    finish: Callable[[], None]
    usage: Callable[[], Usage]
    parser: AnswerParser | None = None


class Engine:
    def __init__(self, model: LoadedModel, limits: Limits) -> None:
        self.model = model
        self.limits = limits
        # What memory there is may hold less than the model was made for.
        self.context_length = min(model.context_length, limits.kv_blocks * BLOCK_TOKENS)
        if self.context_length < model.context_length:
            log.warning("there is memory for a context of %d tokens, of %d", self.context_length, model.context_length)
        model.runner.reserve(limits.kv_blocks)
        self.loop = StepLoop(Scheduler(limits), model.runner)
        self.loop.start()
        self._ids = itertools.count()
        # Encoding has a thread and a tokenizer of its own: the library's tokenizers are not safe to share.
        self._encoder = ThreadPoolExecutor(1, thread_name_prefix="encode")
        self._encode_tokenizer = copy.deepcopy(model.tokenizer)

    @property
    def details(self) -> dict[str, Any]:
        """What `info` says besides what it says of every model: what this one can do beside talking."""
        can = {
            "tools": self.model.parsers is not None and self.model.parsers.calls is not None,
            "thinking": prompt.has_switch(self.model.tokenizer),
        }
        return {"capabilities": [name for name, is_so in can.items() if is_so]}

    async def accept(self, request: ChatRequest) -> Accepted:
        """Checks, encodes and queues the request. Raises InvalidRequest, or Unavailable for a dead engine."""
        if not self.loop.is_alive:
            raise errors.Unavailable("the engine is stopping")
        chat_checks.check(request)
        event_loop = asyncio.get_running_loop()
        where = _reads_vocabulary(request)
        if where is not None and self.model.grammars is not None:
            await self.model.grammars.prepare(where)
        tokens, parser = await event_loop.run_in_executor(self._encoder, self._encode, request)
        limit = prompt.answer_limit(request, len(tokens), self.context_length)
        resumed = prompt.resumed_tokens(request, limit, self.model.vocabulary)
        prompt.check_bias(request, self.model.vocabulary)
        seed = request.options.seed
        seed = secrets.randbelow(MAX_SEED) if seed is None else seed
        mailbox: asyncio.Queue[Event] = asyncio.Queue()
        sequence = ChatSequence(
            id=next(self._ids),
            prompt=tokens,
            limit=limit,
            sampling=sampling.resolve(request.options, self.model.generation_defaults, seed),
            stop_tokens=self.model.stop_tokens,
            text=AnswerText(self.model.decode, request.options.stop_strings),
            deliver=lambda event: _post(event_loop, mailbox, event),
            salt=request.cache_salt or "",
            guide=await self._guide(request),
            request_id=calls.request_id(),
        )
        end = None
        if resumed:
            # Their text is followed off the step thread, which others wait for.
            end = await event_loop.run_in_executor(self._encoder, _resume, sequence, resumed, parser)
            if parser is not None and parser.calls and request.parallel_tool_calls is False:
                end = End(FinishReason.STOP, len(resumed), (), len(resumed))
        events = self._events(sequence, mailbox, end)
        return Accepted(len(tokens), seed, events, partial(self.loop.finish, sequence), lambda: sequence.usage, parser)

    async def warm_up(self, name: str) -> None:
        """One short answer."""
        hello = ChatRequest(name, (Message("user", "hello"),), options=ChatOptions(max_new_tokens=2))
        answer = await self.accept(hello)
        events = [event async for event in answer.events]
        assert isinstance(events[-1], End)

    def stop(self) -> None:
        """Ends the step thread; what still runs fails with Unavailable."""
        self.loop.stop()
        self._encoder.shutdown()
        if self.model.grammars is not None:
            self.model.grammars.close()

    def _encode(self, request: ChatRequest) -> tuple[list[int], AnswerParser | None]:
        tokens = prompt.encode(self._encode_tokenizer, request)
        if self.model.parsers is None or prompt.has_format(request):
            # JSON may have a mark in one of its texts.
            return tokens, None
        # A grammar begins where the answer begins, whatever the chat template has begun.
        begun = [] if prompt.must_follow(request) else tokens
        return tokens, self.model.parsers.parser(begun, prompt.offered(request))

    async def _guide(self, request: ChatRequest) -> Guide | None:
        if not prompt.must_follow(request):
            return None
        grammar = await asyncio.get_running_loop().run_in_executor(self._encoder, self._grammar, request)
        assert self.model.grammars is not None
        return await self.model.grammars.guide(grammar)

    def _grammar(self, request: ChatRequest) -> Grammar:
        shape = request.options.response_format if prompt.has_format(request) else None
        if self.model.grammars is None:
            raise errors.InvalidRequest(f"{_reads_vocabulary(request)}: this model's tokens can't be read")
        if shape is not None:
            return grammars.of_format(shape)
        calls = None if self.model.parsers is None else self.model.parsers.calls
        symbols, is_one = self.model.grammars.vocabulary.symbols, request.parallel_tool_calls is False
        lark = None if calls is None else tool_grammar.grammar(calls, request.tools or (), is_one, symbols)
        if lark is None:
            raise errors.InvalidRequest(
                f"tool_choice: {request.model!r} can't be made to call a tool; 'auto' leaves it to the model"
            )
        return grammars.of_calls(lark)

    async def _events(
        self, sequence: ChatSequence, mailbox: asyncio.Queue[Event], end: End | None
    ) -> AsyncGenerator[Event]:
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


def _reads_vocabulary(request: ChatRequest) -> str | None:
    """The field of the request for which it has to be known what each token is; None where there is none."""
    if prompt.has_format(request):
        return "options.response_format"
    if prompt.must_follow(request):
        return "tool_choice"
    return None if request.options.top_logprobs is None else "options.top_logprobs"


def _resume(sequence: ChatSequence, tokens: Sequence[int], parser: AnswerParser | None) -> End | None:
    try:
        end = sequence.resume(tokens)
    except ValueError as refused:
        raise errors.InvalidRequest(f"resume.token_ids: {refused}") from refused
    if parser is not None:
        parser.feed(sequence.resumed_text)
    return end


def _post(event_loop: asyncio.AbstractEventLoop, mailbox: asyncio.Queue[Event], event: Event) -> None:
    # Nobody listens any more once the server's event loop is gone.
    if not event_loop.is_closed():
        event_loop.call_soon_threadsafe(mailbox.put_nowait, event)
