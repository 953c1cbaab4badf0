"""Byte streams that are nearly HTTP/1.1: cut, doubled, misframed. Pure, and the same for a seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

BODY = b'{"model": "demo", "messages": [{"role": "user", "content": "hi"}], "stream": false}'
PATHS = (b"/engine/inference", b"/v1/chat/completions", b"/api/chat", b"/nameserver/get_services", b"/ready", b"*", b"")
HEADERS: Sequence[bytes] = (
    b"host: localhost", b"host: evil.example", b"host", b": x", b"content-length: 5", b"content-length: -1",
    b"content-length: 99999999999999999999", b"content-length: 0x10", b"content-length : 5",
    b"transfer-encoding: chunked", b"transfer-encoding: gzip, chunked", b"transfer-encoding: chunked, identity",
    b"expect: 100-continue", b"connection: upgrade", b"upgrade: websocket", b"upgrade: h2c", b"connection: close",
    b"connection: keep-alive", b"a: \x00", b"a: \xff", b"a:\tb", b" folded", b"a: " + b"x" * 9000, b"range: bytes=0-0",
    b"content-encoding: gzip", b"content-type: multipart/form-data", b"origin: null", b"authorization: Bearer x",
)  # fmt: skip
CHUNKS = (
    b"5\r\nhello\r\n",
    b"0\r\n\r\n",
    b"zz\r\n",
    b"-1\r\n",
    b"ffffffffffffffff\r\n",
    b"5;a=b\r\nhello\r\n",
    b"5\nhello\n",
)
NOT_HTTP = (
    b"\x16\x03\x01\x00\xa5",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x00" * 100,
    b"SSH-2.0-x\r\n",
    b"\r\n" * 500,
)


def endless(rng: random.Random) -> Iterator[list[bytes]]:
    """What one client sends after each other, in pieces, before it closes or waits."""
    while True:
        yield _pieces(_stream(rng), rng)


def _stream(rng: random.Random) -> bytes:
    if rng.random() < 0.1:
        return rng.choice(NOT_HTTP)
    data = b"".join(_request(rng) for _ in range(rng.choice([1, 1, 1, 2, 5])))
    if rng.random() < 0.3:
        at = rng.randrange(len(data) + 1)
        data = data[:at] + bytes(rng.randrange(256) for _ in range(rng.randrange(4))) + data[at + rng.randrange(4) :]
    return data[: rng.randrange(len(data) + 1)] if rng.random() < 0.2 else data


def _request(rng: random.Random) -> bytes:
    end = rng.choice([b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r"])
    method = rng.choice([b"POST", b"POST", b"GET", b"HEAD", b"OPTIONS", b"CONNECT", b"post", b"", b"G\x00T"])
    version = rng.choice(
        [b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/0.9", b"HTTP/9.9", b"http/1.1", b""]
    )
    lines = [b" ".join((method, rng.choice(PATHS), version))]
    lines += rng.choices(HEADERS, k=rng.choice([0, 1, 2, 3, 70]))
    if rng.random() < 0.6:
        lines += [b"host: localhost", b"content-length: %d" % len(BODY)]
    tail = BODY if rng.random() < 0.6 else b"".join(rng.choices(CHUNKS, k=rng.randrange(5)))
    return end.join(lines) + end + end + tail


def _pieces(data: bytes, rng: random.Random) -> list[bytes]:
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.choice([0, 0, 1, 5])))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
