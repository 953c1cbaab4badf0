"""Sends byte streams, each on a connection of its own, and counts what came back."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

CONCURRENCY = 16
# Whoever is still waited for then is left: a watch, a body that never ends.
PATIENCE_S = 1.5
# What a server may say when it is not at fault: nothing serves the name, or not in time.
DOCUMENTED = frozenset({502, 503, 504})
SHOWN = 300


@dataclass(frozen=True, slots=True)
class Stream:
    """What one client sends, piece by piece; then it waits for so long and leaves."""

    pieces: Sequence[bytes]
    patience_s: float = PATIENCE_S


@dataclass(slots=True)
class Heard:
    """What came back, by status; 0 where nothing did. `wrong` are streams that were answered as none may be."""

    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def take(self, sent: bytes, answer: bytes) -> None:
        head = answer.split(b"\r\n", 1)[0].split(b" ")
        status = int(head[1]) if len(head) > 1 and head[1].isdigit() else 0
        self.statuses[status] += 1
        if (answer and not status) or (status >= 500 and status not in DOCUMENTED):
            self.wrong.append(f"{sent[:SHOWN]!r} -> {answer[:SHOWN]!r}")

    def __str__(self) -> str:
        return ", ".join(f"{status or 'nothing'}: {count}" for status, count in sorted(self.statuses.items()))


async def all_of(port: int, streams: Iterable[Stream]) -> Heard:
    """Sends each, some at a time, until there are no more."""
    heard = Heard()
    source = iter(streams)
    async with asyncio.TaskGroup() as clients:
        for _ in range(CONCURRENCY):
            clients.create_task(_client(port, source, heard))
    return heard


async def _client(port: int, source: Iterator[Stream], heard: Heard) -> None:
    for stream in source:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        answer = bytearray()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(stream.patience_s):
                for piece in stream.pieces:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
                while data := await reader.read(65536):
                    answer += data
        heard.take(b"".join(stream.pieces), bytes(answer))
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
