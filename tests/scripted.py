"""Engines that do no more than a test says with each connection: what no server of ours would ever do."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from modelengine import ServerInfo

# What a front door asks before it lists an engine.
IS_PROBE = b"GET /ready"
READY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@contextmanager
def listening(converse: Callable[[socket.socket], None]) -> Iterator[ServerInfo]:
    """Talks so on each connection that comes, and closes it then."""

    def talk(sock: socket.socket) -> None:
        with sock:
            converse(sock)

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(16) as pool:

        def serve() -> None:
            while True:
                try:
                    pool.submit(talk, listener.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield ServerInfo("demo", *listener.getsockname())
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@contextmanager
def scripted(answer: bytes) -> Iterator[ServerInfo]:
    """A server that is ready, and answers anything else with exactly these bytes before it hangs up."""

    def converse(sock: socket.socket) -> None:
        sock.sendall(READY if sock.recv(65536).startswith(IS_PROBE) else answer)
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(65536):
            pass

    with listening(converse) as info:
        yield info


@contextmanager
def dying() -> Iterator[ServerInfo]:
    """Was ready once, when it was listed, and hangs up on whoever comes after that."""
    probes: list[bytes] = []

    def converse(sock: socket.socket) -> None:
        asked = sock.recv(65536)
        if asked.startswith(IS_PROBE) and not probes:
            probes.append(asked)
            sock.sendall(READY)

    with listening(converse) as info:
        yield info
