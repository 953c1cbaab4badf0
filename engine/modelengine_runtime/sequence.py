"""One request inside the engine: its tokens, where it stands, and the only transitions it may make."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from modelengine.chats import FinishReason, Timings
from modelengine.errors import ModelEngineError
from modelengine_runtime.sampling import Guide, Likelihood, Sampling
from modelengine_runtime.speculation import Lookup
from modelengine_runtime.text import AnswerText


class Status(Enum):
    WAITING = auto()
    RUNNING = auto()
    FINISHED = auto()
    ABORTED = auto()
    FAILED = auto()


# The whole life of a sequence; anything else is a mistake of ours. What runs waits again when it is preempted; what
# waits is finished when the tokens that it is resumed with already end the answer.
TRANSITIONS: Mapping[Status, frozenset[Status]] = {
    Status.WAITING: frozenset({Status.RUNNING, Status.FINISHED, Status.ABORTED, Status.FAILED}),
    Status.RUNNING: frozenset({Status.WAITING, Status.FINISHED, Status.ABORTED, Status.FAILED}),
    Status.FINISHED: frozenset(),
    Status.ABORTED: frozenset(),
    Status.FAILED: frozenset(),
}


@dataclass(frozen=True, slots=True)
class Part:
    """Text that is complete now. `index` is the place of its first token in the answer, `length` the tokens so far.

    One without tokens is the last, of an answer that stops. `likelihoods` are the tokens', where they were asked for.
    """

    index: int
    token_ids: tuple[int, ...]
    text: str
    length: int
    likelihoods: tuple[Likelihood, ...] = ()


@dataclass(frozen=True, slots=True)
class End:
    """Nothing follows. `token_ids` are tokens since the last part that gave no text of their own."""

    reason: FinishReason
    index: int
    token_ids: tuple[int, ...]
    length: int
    likelihoods: tuple[Likelihood, ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """Nothing follows: this request failed, others go on."""

    error: ModelEngineError


Event = Part | End | Failure


@dataclass(frozen=True, slots=True)
class Usage:
    """What an answer took so far: `cached_tokens` of the prompt were known when it was first admitted."""

    cached_tokens: int
    timings: Timings


@dataclass(slots=True, eq=False)
class ChatSequence:
    """`limit` is how many tokens the answer may have; `deliver` is called in the step thread, with each event.

    `blocks` is its block table: the places in the KV cache of the tokens 0-15, 16-31, and so on. `salt` is whose
    prefixes it may share. `guide`, where there is one, says what may come next. `request_id` is for the log.
    """

    id: int
    prompt: Sequence[int]
    limit: int
    sampling: Sampling
    stop_tokens: frozenset[int]
    text: AnswerText
    deliver: Callable[[Event], None]
    salt: str = ""
    guide: Guide | None = None
    request_id: str = ""
    status: Status = Status.WAITING
    output: list[int] = field(default_factory=list)
    # By the place of the token in the answer, until it is delivered. Whoever computes a token again says the same.
    likelihoods: dict[int, Likelihood] = field(default_factory=dict)
    blocks: list[int] = field(default_factory=list)
    # How many tokens (prompt, then output) the cache holds.
    computed: int = 0
    # The last full block of these, as the prefix cache calls it.
    node: int | str = ""
    preemptions: int = 0
    # The text of the tokens that it is resumed with.
    resumed_text: str = ""
    lookup: Lookup = field(default_factory=Lookup)
    clock: Callable[[], float] = time.perf_counter
    cached_tokens: int = 0
    _sent: int = 0
    # By the clock: when it came, was first admitted, had its first token, and ended.
    _came_at: float = 0.0
    _began_at: float | None = None
    _spoke_at: float | None = None
    _ended_at: float | None = None

    def __post_init__(self) -> None:
        self._came_at = self.clock()

    @property
    def length(self) -> int:
        return len(self.prompt) + len(self.output)

    @property
    def pending(self) -> int:
        """The tokens that are known and not in the cache: 1 in decode, more while a prompt is taken in.

        After a preemption or a resume what was answered is taken in like a prompt, and nothing tells them apart.
        """
        return self.length - self.computed

    @property
    def kv_tokens(self) -> int:
        """The most cache this sequence can come to need, in tokens."""
        return len(self.prompt) + self.limit

    def move(self, to: Status) -> None:
        assert to in TRANSITIONS[self.status], f"{self.status} -> {to}"
        self.status = to

    @property
    def usage(self) -> Usage:
        """May be asked for by another thread, and before the end."""
        ended = self.clock() if self._ended_at is None else self._ended_at
        began = ended if self._began_at is None else self._began_at
        spoke = ended if self._spoke_at is None else self._spoke_at
        timings = Timings(queued_s=began - self._came_at, prompt_s=spoke - began, answer_s=ended - spoke)
        return Usage(self.cached_tokens, timings)

    def begin(self, cached: int) -> None:
        """It is admitted, and so many of its tokens are known already. Only the first time counts."""
        self.move(Status.RUNNING)
        if self._began_at is None:
            self._began_at = self.clock()
            self.cached_tokens = min(cached, len(self.prompt))

    def tokens(self, start: int, count: int) -> Sequence[int]:
        """Tokens start..start+count of prompt and output together."""
        begin, end = start - len(self.prompt), start - len(self.prompt) + count
        if begin >= 0:
            return self.output[begin:end]
        return [*self.prompt[start : start + count], *self.output[: max(0, end)]]

    def guess(self, most: int) -> list[int]:
        """At most so many tokens that the answer may go on with; none where a guess would have to be asked about."""
        if self.guide is not None or self.sampling.top_logprobs is not None:
            return []
        known = len(self.lookup)
        self.lookup.extend(self.tokens(known, self.length - known))
        return self.lookup.guess(most)

    def accept(self, token: int) -> list[Event]:
        """Takes the next token of the answer; returns what to deliver. An End means that the sequence is finished.

        The end-of-turn token is not part of the answer, and not counted.
        """
        if self._spoke_at is None:
            self._spoke_at = self.clock()
        text, reason = self._take(token)
        # Text that the end of the turn sets free comes without tokens, which follow with the End: else whoever has it
        # could not tell it from text after which more is to come, and would get it again when he resumes.
        up_to = self._sent if token in self.stop_tokens else len(self.output)
        parts: list[Event] = [self._part(text, up_to)] if text else []
        return parts if reason is None else [*parts, self._end(reason)]

    def resume(self, token_ids: Sequence[int]) -> End | None:
        """Takes tokens that were delivered before, here or elsewhere. Returns the End where they end the answer.

        Their text is not delivered again: whoever has a token has all the text that came with it.
        """
        for token in token_ids:
            text, reason = self._take(token)
            self.resumed_text += text
            self._sent = len(self.output)
            if reason is not None:
                return self._end(reason)
        return None

    def _take(self, token: int) -> tuple[str, FinishReason | None]:
        """The text that is complete with this token, and why the answer ends with it, if it does."""
        if token in self.stop_tokens:
            return self.text.finish(), FinishReason.STOP
        self.output.append(token)
        if self.guide is not None:
            self.guide.accept(token)
        text, stopped = self.text.push(token)
        if stopped:
            return text, FinishReason.STOP
        if len(self.output) >= self.limit:
            return text + self.text.finish(), FinishReason.LENGTH
        return text, None

    def _part(self, text: str, up_to: int) -> Part:
        token_ids = tuple(self.output[self._sent : up_to])
        part = Part(self._sent, token_ids, text, len(self.output), self._likelihoods(up_to))
        self._sent = up_to
        return part

    def _end(self, reason: FinishReason) -> End:
        self.move(Status.FINISHED)
        self._ended_at = self.clock()
        length = len(self.output)
        return End(reason, self._sent, tuple(self.output[self._sent :]), length, self._likelihoods(length))

    def _likelihoods(self, up_to: int) -> tuple[Likelihood, ...]:
        """Of the tokens that are delivered now."""
        places = range(self._sent, up_to) if self.likelihoods else ()
        return tuple(self.likelihoods.pop(place) for place in places)
