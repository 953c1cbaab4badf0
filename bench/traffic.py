"""Requests and answers as the load generator sees them: bytes, kept apart from its sockets. Pure.

The generator must cost less than what it measures, so a request is rendered once, and an answer is followed only as
far as is needed to know when its body began, when it ended, and what its last bytes say.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bench import stats

HEAD_END = b"\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
# The closing fields of an answer's last line fit into this; the list of tokens before them need not.
TAIL_BYTES = 1024
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
TOKENS = re.compile(rb'"completion_tokens": ?(\d+)')


@dataclass(frozen=True, slots=True)
class Load:
    """What to send: `bodies` in turn to `path`, on `connections` at once, each sending on when its answer is whole.

    Ends after `seconds`, or after `requests` where that comes first. Every answer must have `expect` near its end, so
    that no quick refusal is counted. `pids` are processes whose CPU time is read when
    the first request leaves and when the last answer has come.
    """

    port: int
    path: str
    bodies: Sequence[str]
    connections: int = 1
    seconds: float = 60.0
    requests: int | None = None
    expect: str = ""
    pids: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Measured:
    """What came of it. `first` is the time to the first byte of the body, `whole` to the last; `tokens` are counted by
    the server, answer by answer; `cpu` holds seconds of CPU by process, `own_cpu` those of the generator."""

    requests: int
    seconds: float
    tokens: int
    first_p50: float
    whole_p50: float
    whole_p99: float
    own_cpu: float
    cpu: Mapping[str, float] = field(default_factory=dict)

    @property
    def chunks(self) -> int:
        """The lines of all answers, where each token had one and the end of each answer another."""
        return self.tokens + self.requests


def summarize(
    first: Sequence[float],
    whole: Sequence[float],
    seconds: float,
    tokens: int,
    own_cpu: float,
    cpu: Mapping[str, float],
) -> Measured:
    return Measured(
        requests=len(whole),
        seconds=seconds,
        tokens=tokens,
        first_p50=stats.percentile(first, 50),
        whole_p50=stats.percentile(whole, 50),
        whole_p99=stats.percentile(whole, 99),
        own_cpu=own_cpu,
        cpu=cpu,
    )


def encode(record: Load | Measured) -> str:
    return json.dumps(asdict(record))


def decode_load(text: str) -> Load:
    fields: dict[str, Any] = json.loads(text)
    return Load(**fields)


def decode_measured(text: str) -> Measured:
    fields: dict[str, Any] = json.loads(text)
    return Measured(**fields)


def request_bytes(path: str, body: str) -> bytes:
    content = body.encode()
    head = f"POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {len(content)}"
    return head.encode() + HEAD_END + content


class Answer:
    """Follows one HTTP/1.1 answer, of a stated length or in chunks."""

    __slots__ = ("_head", "_left", "has_body", "is_whole", "status", "tail")

    def __init__(self) -> None:
        self.status = 0
        self.has_body = False
        self.is_whole = False
        self.tail = b""
        self._head = b""
        # Bytes of the body that are still to come; None in chunks.
        self._left: int | None = None

    def feed(self, data: bytes) -> None:
        if not self.status:
            head, end, data = (self._head + data).partition(HEAD_END)
            if not end:
                self._head = head
                return
            self.status = int(head[9:12])
            stated = LENGTH.search(head)
            self._left = None if stated is None else int(stated[1])
        if data:
            self.has_body = True
            self.tail = (self.tail + data)[-TAIL_BYTES:]
        if self._left is None:
            # No line of JSON has this in it, and no chunk begins with the end of a line.
            self.is_whole = self.tail.endswith(LAST_CHUNK)
        else:
            self._left -= len(data)
            self.is_whole = self._left <= 0

    @property
    def tokens(self) -> int:
        """What the answer itself says that it has; 0 where it is no chat."""
        found = TOKENS.findall(self.tail)
        return int(found[-1]) if found else 0
