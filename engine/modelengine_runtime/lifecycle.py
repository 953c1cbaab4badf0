"""From an empty process to a listed engine, and back.

The HTTP server is up first and answers `ready` with the stage; the model loads in a thread beside it. Only when the
model has answered once is the engine listed. On stop it is taken off the list before anything else.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from modelengine import errors
from modelengine.protocol import CHAT, ServerInfo
from modelengine_runtime.encoding import EncodingEngine
from modelengine_runtime.engine import Engine
from modelengine_runtime.progress import Stage
from modelengine_runtime.registration import Registration

log = logging.getLogger(__name__)

Result = TypeVar("Result")
# One that chats, or one that makes vectors or scores.
AnyEngine = Engine | EncodingEngine

LOADING_THREAD = "load"
# How soon it is seen that the last open answer is through.
DRAIN_POLL_S = 0.05


class Lifecycle:
    """`load` makes the engine and may take minutes; `name`, `advertise_host` and `protocol` are what the name server is
    told.

    `on_ready` is told the port once requests are answered.
    """

    def __init__(
        self,
        name: str,
        load: Callable[[], AnyEngine],
        nameserver: str,
        advertise_host: str,
        on_ready: Callable[[int], None] = lambda port: None,
        protocol: str = CHAT,
    ) -> None:
        self.name = name
        self.protocol = protocol
        self.stage = Stage.LOADING
        self.failure: errors.ModelEngineError | None = None
        self.started_at = time.monotonic()
        self._load = load
        self._nameserver = nameserver
        self._advertise_host = advertise_host
        self._on_ready = on_ready
        self._engine: AnyEngine | None = None
        self._registration: Registration | None = None
        self._bringing_up: asyncio.Task[None] | None = None

    @property
    def is_ready(self) -> bool:
        return self.stage is Stage.READY and self._engine is not None and self._engine.loop.is_alive

    @property
    def is_healthy(self) -> bool:
        """False when only a restart helps: the load has failed, or the step thread has died."""
        return self.stage is not Stage.FAILED and (self._engine is None or self._engine.loop.is_alive)

    @property
    def engine(self) -> AnyEngine:
        """Raises Unavailable, with the stage, until the model is loaded and when the engine is stopping."""
        if self._engine is None or self.stage is not Stage.READY:
            raise errors.Unavailable(f"{self.name!r} is {self.stage}", retry_after_s=1.0)
        return self._engine

    @property
    def loaded(self) -> AnyEngine | None:
        """The engine whatever its stage, for who only looks; None until the model is loaded."""
        return self._engine

    def begin(self, port: int) -> None:
        """Starts loading; `port` is where this server listens. Called on the event loop."""
        self._bringing_up = asyncio.create_task(self._bring_up(port), name="bring-up")

    async def leave(self) -> None:
        """Takes the engine off the list and refuses new requests; what runs goes on."""
        self.stage = Stage.STOPPING
        if self._bringing_up is not None:
            self._bringing_up.cancel()
            await asyncio.wait([self._bringing_up])
        if self._registration is not None:
            await self._registration.stop()

    async def drained(self) -> None:
        """Returns when no answer is open any more."""
        while (
            (engine := self._engine) is not None and engine.loop.is_alive and engine.load.running + engine.load.waiting
        ):
            await asyncio.sleep(DRAIN_POLL_S)

    def close(self) -> None:
        """Ends the step thread. Raises the error that ended the engine, where one did."""
        if self._engine is not None:
            self._engine.stop()
        if self.failure is not None:
            raise self.failure

    async def _bring_up(self, port: int) -> None:
        try:
            self._engine = await _in_daemon_thread(self._load)
            self.stage = Stage.WARMING_UP
            await warm_up(self._engine, self.name)
        except errors.ModelEngineError as failure:
            self.stage, self.failure = Stage.FAILED, failure
            # The way a person would stop it: the server ends in order, and `close` then says why.
            signal.raise_signal(signal.SIGTERM)
            return
        self.stage = Stage.READY
        self._on_ready(port)
        if self._nameserver:
            service = ServerInfo(self.name, self._advertise_host, port, self.protocol)
            self._registration = Registration(self._nameserver, service)
            self._registration.start()


async def warm_up(engine: AnyEngine, name: str) -> None:
    """One short answer, so that the first user does not pay for what is made on first use. Raises ModelLoadError."""
    try:
        await engine.warm_up(name)
    except Exception as failure:  # A foreign chat template may raise anything.
        raise errors.ModelLoadError(f"{name!r} is loaded but can't answer: {failure}") from failure


async def _in_daemon_thread(work: Callable[[], Result]) -> Result:
    """Runs `work` in a thread that does not keep the process alive: a stop need not wait for a model to load."""
    event_loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = event_loop.create_future()

    def settle(set_outcome: Callable[[], None]) -> None:
        if not event_loop.is_closed():
            event_loop.call_soon_threadsafe(lambda: None if future.done() else set_outcome())

    def run() -> None:
        try:
            result = work()
        except errors.ModelEngineError as failure:
            known = failure
            settle(lambda: future.set_exception(known))
        except Exception as failure:
            log.exception("loading failed")
            unknown = errors.ModelLoadError(f"loading failed: {failure!r}")
            settle(lambda: future.set_exception(unknown))
        else:
            settle(lambda: future.set_result(result))

    threading.Thread(target=run, name=LOADING_THREAD, daemon=True).start()
    return await future
