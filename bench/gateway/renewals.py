"""Keeps the upstream listed at a front door: `python -m bench.gateway.renewals FRONT_DOOR PORT`, until it is ended."""

from __future__ import annotations

import asyncio
import sys

from bench.gateway.proxies import NAME
from bench.processes import LOOPBACK
from modelengine.protocol import ServerInfo
from modelengine_runtime.registration import Registration


async def keep(front_door: str, port: int) -> None:
    registration = Registration(front_door, ServerInfo(NAME, LOOPBACK, port))
    registration.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(keep(sys.argv[1], int(sys.argv[2])))
