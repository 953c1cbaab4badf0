"""The request that is being answered: its id, its trace, and what is found out about it on the way. Pure.

`observing.py` begins a call for each request; whoever learns something of it says so here, by functions that do
nothing where there is no call, as in a test. Metrics and the access line are made of it once, at the end: nothing is
counted per chunk. It never holds a prompt, nor any other text of a user.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from modelengine import errors

REQUEST_ID = "x-request-id"
TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"

# What an id may be, so that it can stand in a header, a log line and a file's name.
SANE_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
# W3C Trace Context: version, trace, parent, flags; a later version may append fields.
TRACE = re.compile(rb"(?!ff)[0-9a-f]{2}-((?!0{32})[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-[ -~]{0,200})?")
SANE_STATE = re.compile(rb"[ -~]{1,512}")
# Error codes of calls that no error of ours ended.
CLIENT_LEFT = "client_left"
CLIENT_STALLED = "client_stalled"
UNKNOWN_FAILURE = "error"


@dataclass(slots=True, eq=False)
class Call:
    """Times are of `time.perf_counter`. `model` is the name that was asked for, `error` the code of what went wrong."""

    id: str
    traceparent: str = ""
    tracestate: str = ""
    operation: str | None = None
    began_at: float = field(default_factory=time.perf_counter)
    # When the first part of a streamed answer was there.
    streaming_since: float | None = None
    model: str | None = None
    # The name of the key that was sent, where keys are asked for.
    key_name: str | None = None
    error: str = ""
    status: int = 0
    # How many answers there are to each prompt, and how many came to their end.
    choices: int = 1
    answers: int = 0
    # Those of the prompts of all answers: each prompt is in it `choices` times.
    read_tokens: int | None = None
    answer_tokens: int | None = None
    # Replicas that were asked in vain, by the code of their refusals.
    retries: list[str] = field(default_factory=list)

    @property
    def prompt_tokens(self) -> int | None:
        """A prompt counts once, however many answers there are to it."""
        return None if self.read_tokens is None else round(self.read_tokens / self.choices)

    @property
    def trace_id(self) -> str:
        return self.traceparent[3:35]


_current: ContextVar[Call | None] = ContextVar("call", default=None)


def begin(headers: Iterable[tuple[bytes, bytes]], operation: str | None) -> Call:
    """The call of a request with these headers becomes the current one, of this task and those that it starts."""
    given: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in (b"x-request-id", b"traceparent", b"tracestate"):
            # Only tracestate may come in several lines.
            given[name] = given[name] + b"," + value if name in given else value
    found = given.get(b"x-request-id", b"")
    call = Call(found.decode() if SANE_ID.fullmatch(found) else uuid.uuid4().hex, operation=operation)
    trace = given.get(b"traceparent", b"")
    if TRACE.fullmatch(trace):
        call.traceparent = trace.decode()
        state = given.get(b"tracestate", b"")
        call.tracestate = state.decode() if SANE_STATE.fullmatch(state) else ""
    _current.set(call)
    return call


def current() -> Call | None:
    return _current.get()


def request_id() -> str:
    """The current call's id; empty where there is none."""
    call = _current.get()
    return call.id if call is not None else ""


def headers() -> dict[str, str]:
    """What a request that is sent on for the current call takes along."""
    call = _current.get()
    if call is None:
        return {}
    passed = {REQUEST_ID: call.id, TRACEPARENT: call.traceparent, TRACESTATE: call.tracestate}
    return {name: value for name, value in passed.items() if value}


def asked_for(model: str | None) -> None:
    if (call := _current.get()) is not None:
        call.model = model


def asked_by(key_name: str) -> None:
    if (call := _current.get()) is not None:
        call.key_name = key_name


def wants_choices(count: int) -> None:
    """Each prompt of this call is answered so many times, by requests of their own."""
    if (call := _current.get()) is not None:
        call.choices = count


def retried(code: str) -> None:
    """A replica was asked in vain, and another one may be."""
    if (call := _current.get()) is not None:
        call.retries.append(code)


def streams() -> None:
    """The first part of a streamed answer is there."""
    if (call := _current.get()) is not None:
        call.streaming_since = time.perf_counter()


def answered(answer: Mapping[str, Any]) -> None:
    """An answer has come to its end: a ChatResponse, or the last ChatChunk, as plain data. A call may have several."""
    if (call := _current.get()) is not None:
        call.answers += 1
        call.read_tokens = _sum(call.read_tokens, answer.get("prompt_length"))
        call.answer_tokens = _sum(call.answer_tokens, answer.get("response_length"))


def closed(envelope: Mapping[str, Any]) -> None:
    """The last line of an answer that an engine gave: its final part, or its error."""
    if envelope["state"] == "ok":
        answered(envelope["msg"])
    else:
        # What comes from elsewhere becomes a label: only codes that are known.
        kind = errors.BY_CODE.get(str(envelope.get("code")), errors.ModelEngineError)
        failed(kind.code)


def failed(code: str) -> None:
    """The call ends with this error; the first that is told counts."""
    if (call := _current.get()) is not None:
        call.error = call.error or code


def _sum(before: int | None, value: Any) -> int | None:
    # What comes from an engine is foreign.
    return (before or 0) + value if isinstance(value, int) and value >= 0 else before
