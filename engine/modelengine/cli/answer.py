"""One answer on its way to the user: its text on stdout as it comes, and its numbers afterwards."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from modelengine import errors, wire
from modelengine.client import ChatClient
from modelengine.protocol import ChatOptions, Message, to_json

# What is not text, except tab and newline; a carriage return is left out, for it is mostly half of a line's end.
CONTROLS = {code: "\N{REPLACEMENT CHARACTER}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n"}
CONTROLS |= {ord("\r"): ""}

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
    with _line_ended(answer, how):
        try:
            (_streamed if how.stream else _whole)(client, model, messages, how, answer, clock)
        except errors.ModelEngineError as failure:
            if how.as_json:
                _print_envelope(wire.error(failure))
            raise


def _streamed(
    client: ChatClient, model: str, messages: Sequence[Message], how: Asking, answer: Answer, clock: Clock
) -> None:
    with client.chat(model, messages, stream=True, options=how.options) as parts:
        for part in parts:
            answer.took(part.content, part.response_length, part.finish_reason, clock())
            if how.as_json:
                _print_envelope(wire.ok(to_json(part)))
            else:
                _print_text(part.content or "")


def _whole(
    client: ChatClient, model: str, messages: Sequence[Message], how: Asking, answer: Answer, clock: Clock
) -> None:
    reply = client.chat(model, messages, options=how.options)
    answer.took(reply.content, reply.response_length, reply.finish_reason, clock())
    if how.as_json:
        _print_envelope(wire.ok(to_json(reply)))
    else:
        _print_text(reply.content)


@contextmanager
def _line_ended(answer: Answer, how: Asking) -> Iterator[None]:
    """What comes after the text, a shell prompt or an error, begins on a line of its own."""
    try:
        yield
    finally:
        if answer.text and not answer.text.endswith("\n") and not how.as_json:
            print(flush=True)


def _print_text(text: str) -> None:
    # A model may say anything, but it may not move the cursor or retitle the window.
    print(text.translate(CONTROLS) if sys.stdout.isatty() else text, end="", flush=True)


def _print_envelope(envelope: dict[str, object]) -> None:
    sys.stdout.write(wire.encode_line(envelope).decode())
    sys.stdout.flush()


def begin(clock: Clock = time.perf_counter) -> Answer:
    return Answer(started_s=clock())
