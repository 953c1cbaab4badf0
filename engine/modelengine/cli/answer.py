"""One answer on its way to the user: its text on stdout as it comes, and its numbers afterwards."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from modelengine import errors, wire
from modelengine.chats import ChatChunk, ChatOptions, ChatResponse, Message
from modelengine.cli.screen import Screen
from modelengine.client import ChatClient
from modelengine.protocol import to_json

Clock = Callable[[], float]


@dataclass(slots=True)
class Answer:
    """Filled while the answer comes, so that what came before a failure or Ctrl-C is kept."""

    started_s: float
    text: str = ""
    tokens: int = 0
    finish_reason: str | None = None
    first_s: float | None = None
    last_s: float | None = None

    def took(self, content: str | None, tokens: int, finish_reason: str | None, now: float) -> None:
        self.first_s = now if self.first_s is None else self.first_s
        self.text, self.tokens, self.last_s = self.text + (content or ""), tokens, now
        self.finish_reason = finish_reason

    @property
    def numbers(self) -> str:
        """`ttft 38 ms · 11 tokens · 212 tok/s · stop`: the time to the first token, and the speed after it."""
        if self.first_s is None or self.last_s is None:
            return "no answer"
        parts = [
            f"ttft {(self.first_s - self.started_s) * 1000:.0f} ms",
            f"{self.tokens} token{'s' * (self.tokens != 1)}",
        ]
        if self.last_s > self.first_s and self.tokens > 1:
            parts.append(f"{(self.tokens - 1) / (self.last_s - self.first_s):.0f} tok/s")
        return " · ".join([*parts, self.finish_reason or "cut off"])


@dataclass(frozen=True, slots=True)
class Asking:
    """How to ask: streamed or whole, shown as text or as the envelopes of the protocol."""

    options: ChatOptions = field(default_factory=ChatOptions)
    stream: bool = True
    as_json: bool = False


def ask(client: ChatClient, model: str, messages: Sequence[Message], how: Asking, answer: Answer, clock: Clock) -> None:
    """Prints the answer and fills `answer`. However it ends early, the engine stops generating."""
    screen = Screen()
    try:
        for part in _parts(client, model, messages, how):
            answer.took(part.content, part.response_length, part.finish_reason, clock())
            if how.as_json:
                _print_envelope(wire.ok(to_json(part)))
            else:
                _show(screen, part)
    except errors.ModelEngineError as failure:
        if how.as_json:
            _print_envelope(wire.error(failure))
        raise
    finally:
        screen.end()


def _parts(
    client: ChatClient, model: str, messages: Sequence[Message], how: Asking
) -> Iterator[ChatChunk | ChatResponse]:
    if not how.stream:
        yield client.chat(model, messages, options=how.options)
        return
    with client.chat(model, messages, stream=True, options=how.options) as parts:
        yield from parts


def _show(screen: Screen, part: ChatChunk | ChatResponse) -> None:
    screen.think(part.reasoning_content or "")
    screen.say(part.content or "")
    for call in part.tool_calls or ():
        screen.call(call)


def _print_envelope(envelope: dict[str, object]) -> None:
    sys.stdout.write(wire.encode_line(envelope).decode())
    sys.stdout.flush()


def begin(clock: Clock = time.perf_counter) -> Answer:
    return Answer(started_s=clock())
