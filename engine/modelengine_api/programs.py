"""Where a program of ours begins and ends: the socket that it listens on, and the code that it exits with.

Apart from `serving.py`, because not every program has a web framework: a pod's fetcher starts without one.
"""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Callable

from modelengine import errors, ports

BACKLOG = 1024
# A client whose machine is gone is noticed within 10 + 3 * 5 s when nothing is sent, and within 30 s when something is.
KEEPALIVE_IDLE_S = 10
KEEPALIVE_EVERY_S = 5
KEEPALIVE_TRIES = 3
UNACKNOWLEDGED_MS = 30_000


def exit_code(start: Callable[[], None]) -> int:
    """Runs a program's main function: 0 when it returns, 1 and one line on stderr when it raises an error of ours."""
    try:
        start()
    except errors.ModelEngineError as failure:
        print(f"error: {failure.message}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 1
    return 0


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes any free one. Raises PortTaken saying by whom, InvalidRequest for a bad host."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as failure:
        raise errors.InvalidRequest(f"can't listen on {host!r}: {failure.strerror}") from failure
    sock = socket.socket(family, kind, proto)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    probe_clients(sock)
    try:
        sock.bind(address)
        # At once: two processes may bind one port, but only one may listen.
        sock.listen(BACKLOG)
    except OSError as failure:
        sock.close()
        if failure.errno == errno.EADDRINUSE:
            raise ports.taken(host, port) from failure
        raise errors.InvalidRequest(f"can't listen on {host}:{port}: {failure.strerror}") from failure
    return sock


def probe_clients(sock: socket.socket) -> None:
    """Makes the kernel notice clients that are gone. Connections have from their listening socket what it is told."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", KEEPALIVE_IDLE_S),
        ("TCP_KEEPINTVL", KEEPALIVE_EVERY_S),
        ("TCP_KEEPCNT", KEEPALIVE_TRIES),
        ("TCP_USER_TIMEOUT", UNACKNOWLEDGED_MS),
    ):
        # Not every system has all of them.
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
