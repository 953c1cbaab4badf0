"""Keeps the engine's entry at the name server: registered when ready, renewed, taken off on stop.

Outside a cluster the engine does this itself; in a cluster the operator does, and this is off. A renewal is the same
call as a registration, so a name server that was restarted is refilled within one renewal.
"""

from __future__ import annotations

import asyncio
import logging

from modelengine import errors
from modelengine.aio import AsyncNameServerClient
from modelengine.protocol import ServerInfo

log = logging.getLogger(__name__)

# Until the name server has said how often it wants to hear from us.
FIRST_RENEW_S = 1.0
# A name server that hangs must not cost us the next renewals; its own probe of a new entry takes up to 1.5 s.
CALL_TIMEOUT_S = 3.0


class Registration:
    """Between `start` and `stop` the service is listed."""

    def __init__(self, nameserver: str, service: ServerInfo) -> None:
        self._nameserver = nameserver
        self._service = service
        self._client = AsyncNameServerClient(nameserver)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._keep_registered(), name="registration")

    async def stop(self) -> None:
        """Takes the service off the list; a name server that is away drops it by itself when the lease ends."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        try:
            await self._client.deregister(self._service)
        except errors.ModelEngineError as away:
            log.info("not deregistered, the lease ends by itself: %s", away)
        finally:
            await self._client.close()

    async def _keep_registered(self) -> None:
        renew_s = FIRST_RENEW_S
        listed = told = False
        while True:
            try:
                async with asyncio.timeout(CALL_TIMEOUT_S):
                    renew_s = float((await self._client.register(self._service))["renew_s"])
                if not listed:
                    log.info("registered %s at %s", self._service, self._nameserver)
                listed, told = True, False
            except (errors.ModelEngineError, TimeoutError, LookupError, TypeError, ValueError) as failure:
                # Also an answer that is none of a name server's must not end the renewals: the engine serves whoever
                # knows its address, and tries on. Said aloud once.
                log.log(logging.DEBUG if told else logging.WARNING, "not registered: %s", failure or "no answer")
                listed, told = False, True
            await asyncio.sleep(renew_s)
