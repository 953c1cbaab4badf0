"""A real server of ours in a thread of the test process, on a free port of the loopback."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from starlette.types import ASGIApp

from modelengine_api import programs, serving
from modelengine_api.connections import Bounds


@contextmanager
def running(
    app: ASGIApp,
    *,
    on_listening: Callable[[int], None] | None = None,
    on_stop: Callable[[], Awaitable[None]] | None = None,
    until_idle: Callable[[], Awaitable[None]] | None = None,
    grace_s: float = 0.5,
    host: str = "127.0.0.1",
    port: int = 0,
    bounds: Bounds = Bounds(),
) -> Iterator[int]:
    """Serves the app while the block runs; gives its port. The stop is the real one, as on a signal."""
    sock = programs.listen(host, port)
    started = threading.Event()
    stops: list[Callable[[], object]] = []

    def listening(port: int) -> None:
        if on_listening is not None:
            on_listening(port)
        started.set()

    async def serve() -> None:
        stop, loop = serving.Stop(), asyncio.get_running_loop()
        stops.append(lambda: loop.call_soon_threadsafe(stop.ask))
        await serving.run(
            app,
            sock,
            stop,
            on_listening=listening,
            on_stop=on_stop,
            until_idle=until_idle,
            grace_s=grace_s,
            bounds=bounds,
        )

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="test-server")
    thread.start()
    assert started.wait(10), "the server did not start"
    try:
        yield sock.getsockname()[1]
    finally:
        stops[0]()
        thread.join(grace_s + 10)
        assert not thread.is_alive(), "the server did not stop"
