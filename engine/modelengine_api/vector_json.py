"""Answers that are mostly numbers: a body as JSON with its vectors written out, a piece at a time.

Two thousand vectors take most of a second to write, in which their server must go on with everybody else's answers:
`doors.in_pieces` lets the others go first after each piece. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from modelengine import wire

# Stands in a body where the numbers of a vector belong: a byte that JSON never has.
_MARK = b"\0"
PLACE = orjson.Fragment(_MARK)
# In a piece. So many take about 2 ms.
NUMBERS = 8192


def pieces(body: Any, encoded: Sequence[str]) -> Iterator[bytes]:
    """The body, whose PLACEs are those of these vectors, in their order. A body without any is one piece.

    Raises StreamBroken for what is no vector.
    """
    begin, *behind = orjson.dumps(body).split(_MARK)
    assert len(behind) in (0, len(encoded))
    piece, written = [begin], 0
    for vector, following in zip(encoded, behind, strict=False):
        numbers = wire.decode_vector(vector)
        if written and written + len(numbers) > NUMBERS:
            yield b"".join(piece)
            piece, written = [], 0
        piece += [orjson.dumps(numbers), following]
        written += len(numbers)
    yield b"".join(piece)
