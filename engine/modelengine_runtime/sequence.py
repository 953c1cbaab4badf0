"""One request inside the engine: its tokens, where it stands, and the only transitions it may make."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from modelengine.errors import ModelEngineError
from modelengine.protocol import FinishReason
from modelengine_runtime.sampling import Sampling
from modelengine_runtime.text import AnswerText


class Status(Enum):
    WAITING = auto()
    RUNNING = auto()
    FINISHED = auto()
    ABORTED = auto()
    FAILED = auto()


# The whole life of a sequence; anything else is a mistake of ours.
TRANSITIONS: Mapping[Status, frozenset[Status]] = {
    Status.WAITING: frozenset({Status.RUNNING, Status.ABORTED, Status.FAILED}),
    Status.RUNNING: frozenset({Status.FINISHED, Status.ABORTED, Status.FAILED}),
    Status.FINISHED: frozenset(),
    Status.ABORTED: frozenset(),
    Status.FAILED: frozenset(),
}


@dataclass(frozen=True, slots=True)
class Part:
    """Text that is complete now. `index` is the place of its first token in the answer, `length` the tokens so far."""

    index: int
    token_ids: tuple[int, ...]
    text: str
    length: int


@dataclass(frozen=True, slots=True)
class End:
    """Nothing follows. `token_ids` are tokens since the last part that gave no text of their own."""

    reason: FinishReason
    index: int
    token_ids: tuple[int, ...]
    length: int


@dataclass(frozen=True, slots=True)
class Failure:
    """Nothing follows: this request failed, others go on."""

    error: ModelEngineError


Event = Part | End | Failure


@dataclass(slots=True, eq=False)
class ChatSequence:
    """`limit` is how many tokens the answer may have; `deliver` is called in the step thread, with each event."""

    id: int
    prompt: Sequence[int]
    limit: int
    sampling: Sampling
    stop_tokens: frozenset[int]
    text: AnswerText
    deliver: Callable[[Event], None]
    status: Status = Status.WAITING
    output: list[int] = field(default_factory=list)
    # How many tokens (prompt, then output) the runner has taken in.
    computed: int = 0
    _sent: int = 0

    @property
    def length(self) -> int:
        return len(self.prompt) + len(self.output)

    @property
    def kv_tokens(self) -> int:
        """The most cache this sequence can come to need, in tokens."""
        return len(self.prompt) + self.limit

    def move(self, to: Status) -> None:
        assert to in TRANSITIONS[self.status], f"{self.status} -> {to}"
        self.status = to

    def tokens(self, start: int, count: int) -> Sequence[int]:
        """Tokens start..start+count of prompt and output together."""
        begin, end = start - len(self.prompt), start - len(self.prompt) + count
        if begin >= 0:
            return self.output[begin:end]
        return [*self.prompt[start : start + count], *self.output[: max(0, end)]]

    def accept(self, token: int) -> list[Event]:
        """Takes the next token of the answer; returns what to deliver. An End means that the sequence is finished.

        The end-of-turn token is not part of the answer, and not counted.
        """
        if token in self.stop_tokens:
            return self._end(FinishReason.STOP, self.text.finish())
        self.output.append(token)
        text, stopped = self.text.push(token)
        if stopped:
            return self._end(FinishReason.STOP, text)
        if len(self.output) >= self.limit:
            return self._end(FinishReason.LENGTH, text + self.text.finish())
        return [self._part(text)] if text else []

    def _part(self, text: str) -> Part:
        part = Part(self._sent, tuple(self.output[self._sent :]), text, len(self.output))
        self._sent = len(self.output)
        return part

    def _end(self, reason: FinishReason, text: str) -> list[Event]:
        parts: list[Event] = [self._part(text)] if text else []
        self.move(Status.FINISHED)
        return [*parts, End(reason, self._sent, tuple(self.output[self._sent :]), len(self.output))]
