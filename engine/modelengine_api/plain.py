"""Routes whose functions take the request and give the response themselves, as all of ours that must be cheap do.

FastAPI would look for parameters, dependencies and a response model of theirs at each request, and for their route one
after the other in every router: both take longer than all that the front door does for a chat.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class PlainRoute(APIRoute):
    """For functions `async (request: Request) -> Response` and no others; in the API's description as any route."""

    def get_route_handler(self) -> Handler:
        handler: Handler = self.endpoint
        return handler


class Shortcuts(BaseRoute):
    """One route for all plain routes of fixed path in these routers: goes to the front of an app's route table.

    The routers are included beside it: they describe the API, and say what is wrong with any other request.
    """

    include_in_schema = False

    def __init__(self, routers: Iterable[APIRouter]) -> None:
        self._handlers: Mapping[tuple[str, str], Handler] = {
            (method, route.path): route.get_route_handler()
            for router in routers
            for route in router.routes
            if isinstance(route, PlainRoute) and not route.param_convertors
            for method in route.methods
        }

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] == "http":
            handler = self._handlers.get((scope["method"], scope["path"]))
            if handler is not None:
                return Match.FULL, {"endpoint": handler}
        return Match.NONE, {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await scope["endpoint"](Request(scope, receive, send))
        await response(scope, receive, send)
