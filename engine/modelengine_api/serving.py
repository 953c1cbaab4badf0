"""Runs a server from its socket to its last byte: an engine and the front door both start and stop here.

Stopping, in order: the first signal awaits `on_stop` (which takes the server off the lists), then no connection is
accepted any more, open answers may finish for `grace_s`, and what is still open then is told so and closed. With
`until_idle` connections are accepted until that returns, so that the app itself refuses who still comes. A second
signal goes straight to the end. A server that `modelengine up` started also stops when its stdin ends, because then
its parent is dead.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING

import uvicorn
import uvloop

from modelengine import env
from modelengine_api import connections, programs
from modelengine_api.connections import Bounds, Connection

if TYPE_CHECKING:
    from starlette.types import ASGIApp

log = logging.getLogger(__name__)

# Longer than our clients keep an idle connection, so that the client is the one who closes it.
KEEP_ALIVE_S = 75
ON_STOP_S = 5.0
LAST_WORD_S = 1.0


class Stop:
    """Collects wishes to stop: the first one is polite, the second is not."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.forced = asyncio.Event()

    def ask(self) -> None:
        (self.forced if self.asked.is_set() else self.asked).set()


def serve(
    app: ASGIApp,
    host: str,
    port: int,
    *,
    on_listening: Callable[[int], None] | None = None,
    on_stop: Callable[[], Awaitable[None]] | None = None,
    until_idle: Callable[[], Awaitable[None]] | None = None,
    grace_s: float = 30.0,
    bounds: Bounds = Bounds(),
) -> None:
    """Serves the app until a signal or the end of stdin stops it. `on_listening` is told the port that it got."""
    sock = programs.listen(host, port)
    bounds = bounds.that_fit(_open_files())
    _make_room_for_files(bounds.open_files)

    async def until_stopped() -> None:
        stop = Stop()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.ask)
        if env.flag(os.environ, env.EXIT_WITH_STDIN):
            _when_stdin_ends(lambda: loop.call_soon_threadsafe(stop.ask))
        await run(
            app,
            sock,
            stop,
            on_listening=on_listening,
            on_stop=on_stop,
            until_idle=until_idle,
            grace_s=grace_s,
            bounds=bounds,
        )

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(until_stopped())


async def run(
    app: ASGIApp,
    sock: socket.socket,
    stop: Stop,
    *,
    on_listening: Callable[[int], None] | None = None,
    on_stop: Callable[[], Awaitable[None]] | None = None,
    until_idle: Callable[[], Awaitable[None]] | None = None,
    grace_s: float = 30.0,
    bounds: Bounds = Bounds(),
) -> None:
    """Serves the app on a listening socket until `stop` is asked, then stops as this module's first lines say."""
    config = uvicorn.Config(
        app,
        http=type("Bounded", (Connection,), {"bounds": bounds}),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        # Nobody here asks who is behind a proxy; uvicorn would look at each request.
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
    )
    port = sock.getsockname()[1]
    server = _Server(config, lambda: on_listening(port) if on_listening else None)
    serving = asyncio.create_task(server.serve(sockets=[sock]))
    watching = asyncio.create_task(connections.watch(server.server_state.connections))
    asked, forced = asyncio.create_task(stop.asked.wait()), asyncio.create_task(stop.forced.wait())
    try:
        await asyncio.wait((serving, asked), return_when=asyncio.FIRST_COMPLETED)
        deadline = asyncio.get_running_loop().time() + grace_s
        if on_stop is not None and not serving.done():
            leaving = asyncio.create_task(_leave(on_stop))
            await asyncio.wait((serving, forced, leaving), return_when=asyncio.FIRST_COMPLETED)
        if until_idle is not None and not serving.done():
            idle = asyncio.ensure_future(until_idle())
            await asyncio.wait((serving, forced, idle), timeout=_left_s(deadline), return_when=asyncio.FIRST_COMPLETED)
            idle.cancel()
        server.should_exit = True
        await asyncio.wait((serving, forced), timeout=_left_s(deadline), return_when=asyncio.FIRST_COMPLETED)
        for cut in (server.cancel_requests, server.abort_connections, server.give_up):
            if not serving.done():
                cut()
                await asyncio.wait((serving,), timeout=LAST_WORD_S)
        await serving
    finally:
        for task in (asked, forced, watching):
            task.cancel()


def _make_room_for_files(count: int) -> None:
    """Has the kernel make this process's table of open files so large at once.

    By itself it doubles the table whenever that is full, and in a process with threads each time stands still until all
    processors have noticed (Linux's `expand_fdtable` waits for RCU): 10 to 20 ms in which no stream goes on.
    """
    with contextlib.suppress(OSError):
        os.close(fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, count - 1))


def _open_files() -> int:
    """How many files this process may have open: as many as it may allow itself."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if allowed == resource.RLIM_INFINITY else allowed


def _left_s(deadline: float) -> float:
    return max(0.0, deadline - asyncio.get_running_loop().time())


class _Server(uvicorn.Server):
    """uvicorn, with our way to stop in the place of its own."""

    def __init__(self, config: uvicorn.Config, on_listening: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_listening = on_listening

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn's own handlers would begin its shutdown at once, beside `on_stop` and not after it.
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_listening()

    def cancel_requests(self) -> None:
        """Ends what is still open; streams get a last line that says why."""
        for task in list(self.server_state.tasks):
            task.cancel()

    def abort_connections(self) -> None:
        """Drops clients that do not even take their last line."""
        for connection in list(self.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()

    def give_up(self) -> None:
        self.force_exit = True


async def _leave(on_stop: Callable[[], Awaitable[None]]) -> None:
    """A stop must not fail or hang because somebody else is already gone."""
    try:
        async with asyncio.timeout(ON_STOP_S):
            await on_stop()
    except Exception as failure:
        log.warning("leaving was not clean: %s", failure or type(failure).__name__)


def _when_stdin_ends(act: Callable[[], object]) -> None:
    def read() -> None:
        while os.read(0, 4096):
            pass
        # The loop may be closed already when the process ends for another reason.
        with contextlib.suppress(RuntimeError):
            act()

    threading.Thread(target=read, name="stdin", daemon=True).start()
