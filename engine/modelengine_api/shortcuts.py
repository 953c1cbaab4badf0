"""The way to the routes that must be cheap: one look-up, where FastAPI tries route after route in every router.

It would also look for parameters, dependencies and a response model at each request; all that takes longer than what
the front door does for a chat.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send


class Shortcuts(BaseRoute):
    """One route for all those in these routers that have a fixed path and a function `(request) -> Response`.

    Goes to the front of an app's route table. The routers are included beside it: they describe the API, and say what
    is wrong with any other request.
    """

    include_in_schema = False

    def __init__(self, routers: Iterable[APIRouter]) -> None:
        self._routes: Mapping[tuple[str, str], APIRoute] = {
            (method, route.path): route
            for router in routers
            for route in router.routes
            if isinstance(route, APIRoute) and _is_plain(route)
            for method in route.methods or ()
        }

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] == "http":
            route = self._routes.get((scope["method"], scope["path"]))
            if route is not None:
                return Match.FULL, {"endpoint": route.endpoint, "route": route}
        return Match.NONE, {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        response: Response = await scope["endpoint"](Request(scope, receive, send))
        await response(scope, receive, send)


def _is_plain(route: APIRoute) -> bool:
    return [*inspect.signature(route.endpoint).parameters] == ["request"] and not route.param_convertors
