"""A front door is no engine: who names one as a replica would send each request in a circle, ever more of them.

Whoever may register, or may edit a registry, could name any address. So the front door marks all that it sends, and
takes nothing that is marked.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from modelengine import errors
from modelengine_api import doors

MARK = "x-modelengine-relayed"


class NoLoops:
    """Refuses what a front door has sent, probes included: so this one is never listed as an engine."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and any(name == MARK.encode() for name, _ in scope["headers"]):
            refusal = doors.refusal(errors.Unavailable("this is a front door, not an engine"), scope["path"])
            await refusal(scope, receive, send)
        else:
            await self._app(scope, receive, send)
