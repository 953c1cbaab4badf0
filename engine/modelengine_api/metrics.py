"""The requests to models as Prometheus reads them, under OpenTelemetry's names; an engine and the front door count so.

Each request is counted once, at its end. A label is one of few words: a name that is served, an operation, an error's
code; what else was asked for is `unknown`, and no text of a user becomes a label.
"""

from __future__ import annotations

from collections import Counter as Tallies
from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram

from modelengine import errors
from modelengine_api.calls import Call

# OpenTelemetry's semantic conventions for generative AI name these boundaries, in seconds.
DURATION_S = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
FIRST_TOKEN_S = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
OUTPUT_TOKEN_S = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)

MODEL = "gen_ai_request_model"
OPERATION = "gen_ai_operation_name"
ERROR = "error_type"
UNKNOWN = "unknown"
# Names may come and go while a server runs, and on one machine anybody may register one: so many get series.
MAX_MODELS = 1000

Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class _Series:
    """The histograms of one model, operation and error."""

    duration: Histogram
    first_token: Histogram
    output_token: Histogram


class Requests:
    """An `observing.Tally` over a registry of Prometheus'."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.open: set[Call] = set()
        self.duration = Histogram(
            "gen_ai_server_request_duration_seconds",
            "Time from a request to the last byte of its answer; error_type is empty where all went well.",
            (MODEL, OPERATION, ERROR),
            buckets=DURATION_S,
            registry=registry,
        )
        self.first_token = Histogram(
            "gen_ai_server_time_to_first_token_seconds",
            "Time from a request to the first part of its streamed answer.",
            (MODEL, OPERATION),
            buckets=FIRST_TOKEN_S,
            registry=registry,
        )
        self._output_token = Histogram(
            "gen_ai_server_time_per_output_token_seconds",
            "Time per token of a streamed answer after its first, as the mean of each answer.",
            (MODEL, OPERATION),
            buckets=OUTPUT_TOKEN_S,
            registry=registry,
        )
        self._prompt_tokens = Counter(
            "modelengine_request_prompt_tokens_total",
            "Tokens of prompts whose answers came to their end.",
            (MODEL,),
            registry=registry,
        )
        self._answer_tokens = Counter(
            "modelengine_request_answer_tokens_total",
            "Tokens of answers that came to their end.",
            (MODEL,),
            registry=registry,
        )
        self.retries: Tallies[str] = Tallies()
        self._series: dict[Key, _Series] = {}
        self._tokens: dict[str, tuple[Counter, Counter]] = {}
        self._models: set[str] = set()

    def begin(self, call: Call) -> None:
        self.open.add(call)

    def end(self, call: Call, seconds: float) -> None:
        self.open.discard(call)
        if call.operation is None:
            return
        if call.retries:
            self.retries.update(call.retries)
        model = self.bounded(call)
        series = self._of((model, call.operation, call.error))
        series.duration.observe(seconds)
        if call.streaming_since is not None:
            to_first = call.streaming_since - call.began_at
            series.first_token.observe(to_first)
            # Of several answers at once, the time of each is not known.
            if not call.error and call.answers == 1 and call.answer_tokens is not None and call.answer_tokens > 1:
                series.output_token.observe((seconds - to_first) / (call.answer_tokens - 1))
        if call.answer_tokens is not None:
            prompt_tokens, answer_tokens = self._tokens_of(model)
            prompt_tokens.inc(call.prompt_tokens or 0)
            answer_tokens.inc(call.answer_tokens)

    def bounded(self, call: Call) -> str:
        # Whoever was told that there is no such model has not asked for one.
        if call.model is None or call.error == errors.NotFound.code:
            return UNKNOWN
        if call.model not in self._models:
            if len(self._models) >= MAX_MODELS:
                return UNKNOWN
            self._models.add(call.model)
        return call.model

    def _of(self, key: Key) -> _Series:
        series = self._series.get(key)
        if series is None:
            model, operation, error = key
            series = self._series[key] = _Series(
                self.duration.labels(model, operation, error),
                self.first_token.labels(model, operation),
                self._output_token.labels(model, operation),
            )
        return series

    def _tokens_of(self, model: str) -> tuple[Counter, Counter]:
        tokens = self._tokens.get(model)
        if tokens is None:
            tokens = self._tokens[model] = self._prompt_tokens.labels(model), self._answer_tokens.labels(model)
        return tokens

    @property
    def streams_open(self) -> int:
        return sum(call.streaming_since is not None for call in self.open)

    def open_requests(self) -> Iterator[tuple[str, bool]]:
        """Of each open request to a model: the name, and whether its answer has begun."""
        for call in self.open:
            if call.operation is None:
                continue
            has_begun = call.streaming_since is not None
            # A name that nobody has answered for yet may be anything.
            yield self.bounded(call) if has_begun or call.model in self._models else UNKNOWN, has_begun
