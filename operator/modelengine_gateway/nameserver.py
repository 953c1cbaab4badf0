"""The name server's routes, `POST /nameserver/<method>`, over the directory."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Generic, TypeVar

import orjson
from annotated_types import Gt, Le
from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

import modelengine
from modelengine import errors
from modelengine.protocol import STRICT, Name, NameServerMethod, ServerInfo
from modelengine_api import bodies, doors, openapi, streaming
from modelengine_api.native import Methods
from modelengine_gateway import access
from modelengine_gateway.directory import KEEP_ALIVE_S, Directory
from modelengine_gateway.keys import Opens
from modelengine_gateway.leases import Leases

MAX_WAIT_S = 60.0
# An engine may miss two renewals before it is unlisted.
RENEWALS_PER_LEASE = 3
LOOK_UPS = {NameServerMethod.GET_SERVICES, NameServerMethod.GET_SERVICE_NAMES}
REGISTRATIONS = {NameServerMethod.REGISTER, NameServerMethod.DEREGISTER}
# A name that no engine can have.
NOBODY = ""
NOT_BY_REGISTERING = "names come from ModelEngine objects here: apply one with kubectl, it is listed once it is ready"

Listing = Mapping[str, Sequence[Any]]
Query = TypeVar("Query")


@dataclass(frozen=True, slots=True)
class ServicesQuery:
    protocol: Name
    name: Name

    __pydantic_config__: ClassVar[Mapping[str, Any]] = STRICT


@dataclass(frozen=True, slots=True)
class NamesQuery:
    protocol: Name

    __pydantic_config__: ClassVar[Mapping[str, Any]] = STRICT


@dataclass(frozen=True, slots=True)
class WaitQuery:
    """Without a protocol, any will do."""

    name: Name
    protocol: Name | None = None
    timeout_s: Annotated[float, Gt(0), Le(MAX_WAIT_S)] = 20.0

    __pydantic_config__: ClassVar[Mapping[str, Any]] = STRICT


@dataclass(frozen=True, slots=True)
class WatchQuery:
    protocol: Name | None = None
    name: Name | None = None

    __pydantic_config__: ClassVar[Mapping[str, Any]] = STRICT


@dataclass(frozen=True, slots=True)
class Services:
    services: list[ServerInfo]


@dataclass(frozen=True, slots=True)
class Snapshot:
    revision: int
    services: list[ServerInfo]


@dataclass(frozen=True, slots=True)
class ServiceNames:
    service_names: list[str]


@dataclass(frozen=True, slots=True)
class Listed:
    listed: bool


@dataclass(frozen=True, slots=True)
class Registered:
    register: str
    lease_s: float
    renew_s: float


@dataclass(frozen=True, slots=True)
class Found:
    founded: bool


_service = bodies.Reader(ServerInfo)
_services_query = bodies.Reader(ServicesQuery)
_names_query = bodies.Reader(NamesQuery)
_wait_query = bodies.Reader(WaitQuery)
_watch_query = bodies.Reader(WatchQuery)


# What each method takes and answers, for the description of the API.
OPERATIONS: Mapping[NameServerMethod, dict[str, Any]] = {
    NameServerMethod.DEREGISTER: openapi.operation(body=ServerInfo, answer=Found),
    NameServerMethod.GET_SERVICE_NAMES: openapi.operation(body=NamesQuery, answer=ServiceNames),
    NameServerMethod.GET_SERVICES: openapi.operation(body=ServicesQuery, answer=Services),
    NameServerMethod.INFO: openapi.operation(answer=dict[str, Any]),
    NameServerMethod.REGISTER: openapi.operation(body=ServerInfo, answer=Registered),
    NameServerMethod.REPORT: openapi.operation(body=ServerInfo, answer=Listed),
    NameServerMethod.SUPPORT_METHODS: openapi.operation(answer=Methods),
    NameServerMethod.WAIT: openapi.operation(body=WaitQuery, answer=Services, refusals=[errors.WaitTimeout]),
    NameServerMethod.WATCH: openapi.operation(body=WatchQuery, part=Snapshot, body_required=False),
}


@dataclass(slots=True)
class _Own:
    """What one watch has told a caller that is not told everything, with a revision of its own."""

    revision: int = 0
    shown: Sequence[ServerInfo] | None = None
    told_at: float = 0.0

    def take(self, shown: Sequence[ServerInfo], now: float) -> bool:
        """Whether to tell it: it differs, or nothing was told for about KEEP_ALIVE_S."""
        if shown != self.shown:
            self.revision += 1
        elif now - self.told_at < 0.9 * KEEP_ALIVE_S:
            return False
        self.shown, self.told_at = shown, now
        return True


class NameServer:
    """One method per call of the protocol, under the call's own name. The look-ups are apart, see LookUp."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._started = time.monotonic()

    async def report(self, request: Request) -> Response:
        info = await _service.read(request)
        # What does not exist for the caller is not looked into either.
        return doors.answer({"listed": access.sees(info.name) and await self._directory.report(info)})

    async def wait(self, request: Request) -> Response:
        query = await _wait_query.read(request)
        is_hidden = not access.sees(query.name)
        waiting = self._directory.wait(query.protocol, query.name, query.timeout_s, is_hidden=is_hidden)
        services = await streaming.until_disconnected(request, waiting)
        return doors.answer(_listing(access.shown(services, request.scope)))

    async def watch(self, request: Request) -> Response:
        query = await _watch_query.read(request)
        return streaming.LineStream(self._snapshots(query, request.scope))

    async def _snapshots(self, query: WatchQuery, scope: Scope) -> AsyncIterator[bytes]:
        who = access.caller()
        # What does not exist for the caller must not show itself by its changes either, nor by their number.
        name = query.name if query.name is None or access.sees(query.name) else NOBODY
        own = _Own() if who is not None and who.is_restricted else None
        async for services in self._directory.watch(query.protocol, name, None if who is None else who.key.sees):
            if who is not None:
                who.check()
            shown = access.shown(services, scope)
            if own is not None and not own.take(shown, time.monotonic()):
                continue
            revision = self._directory.revision if own is None else own.revision
            yield orjson.dumps({"state": "ok", "msg": {"revision": revision, **_listing(shown)}}) + b"\n"

    async def support_methods(self, request: Request) -> Response:
        return doors.answer({"support_methods": sorted(_offered(self._directory))})

    async def info(self, request: Request) -> Response:
        listed = [info for info in self._directory.all() if access.sees(info.name)]
        details = self._directory.details() if access.may(Opens.NAMES) else {}
        return doors.answer(
            {
                "name": "ModelEngine name server",
                "kind": self._directory.kind,
                "version": modelengine.__version__,
                "pid": os.getpid(),
                "uptime_s": round(time.monotonic() - self._started, 3),
                "names": len({(info.protocol, info.name) for info in listed}),
                "services": len(listed),
                **details,
            }
        )


class Registrations:
    """How engines enter themselves and leave, where they do."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases

    async def register(self, request: Request) -> Response:
        info = await _service.read(request)
        if not access.sees(info.name):
            raise errors.Forbidden(f"this key may not register {info.name!r}; its `models` allow other names")
        await self._leases.register(info)
        lease_s = self._leases.lease_s
        return doors.answer({"register": "success", "lease_s": lease_s, "renew_s": lease_s / RENEWALS_PER_LEASE})

    async def deregister(self, request: Request) -> Response:
        info = await _service.read(request)
        return doors.answer({"founded": access.sees(info.name) and self._leases.deregister(info)})


async def _not_by_registering(request: Request) -> Response:
    raise errors.InvalidRequest(NOT_BY_REGISTERING)


class LookUp(Generic[Query]):
    """One look-up as an ASGI app: clients look up before every chat, so no part of the framework stands before it.

    Answers are kept rendered until the membership changes, where all hear the same.
    """

    def __init__(
        self, directory: Directory, query: bodies.Reader[Query], find: Callable[[Query, Scope], Listing]
    ) -> None:
        self._directory = directory
        self._query = query
        self._find = find
        self._rendered: dict[Query, bytes] = {}
        self._rendered_at = -1

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        query = self._query.parse(await _whole_body(receive))
        body = self._answer(query, scope) if access.caller() is None else _ok(self._find(query, scope))
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _answer(self, query: Query, scope: Scope) -> bytes:
        if self._rendered_at != self._directory.revision:
            self._rendered.clear()
            self._rendered_at = self._directory.revision
        body = self._rendered.get(query)
        if body is None:
            found = self._find(query, scope)
            body = _ok(found)
            # What is unknown is not kept: anybody may ask for any number of names.
            if any(found.values()):
                self._rendered[query] = body
        return body


def _ok(found: Listing) -> bytes:
    return orjson.dumps({"state": "ok", "msg": found})


async def _whole_body(receive: Receive) -> bytes:
    parts, more = [], True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


def look_ups(directory: Directory) -> list[BaseRoute]:
    """The two look-ups, for the front of the app's route table."""

    def services_of(query: ServicesQuery, scope: Scope) -> Listing:
        return _listing(access.shown(directory.services(query.protocol, query.name), scope))

    def names_of(query: NamesQuery, scope: Scope) -> Listing:
        return {"service_names": [name for name in directory.names(query.protocol) if access.sees(name)]}

    services = LookUp(directory, _services_query, services_of)
    names = LookUp(directory, _names_query, names_of)
    return [
        _plain(NameServerMethod.GET_SERVICES, services),
        _plain(NameServerMethod.GET_SERVICE_NAMES, names),
    ]


def routes(directory: Directory) -> APIRouter:
    """A route for each method of the protocol but the look-ups."""
    router = APIRouter()
    _add(router, NameServer(directory), set(NameServerMethod) - LOOK_UPS - REGISTRATIONS)
    if isinstance(directory, Leases):
        _add(router, Registrations(directory), REGISTRATIONS)
    return router


def refusals(directory: Directory) -> list[BaseRoute]:
    """Methods that are not offered, and answer only how names come here instead. For the app's route table too."""
    return [
        openapi.KnownRoute(_path(method), _not_by_registering, methods=["POST"], include_in_schema=False)
        for method in sorted(set(NameServerMethod) - _offered(directory))
    ]


def _offered(directory: Directory) -> set[NameServerMethod]:
    return set(NameServerMethod) - (set() if isinstance(directory, Leases) else REGISTRATIONS)


def _add(router: APIRouter, server: object, methods: set[NameServerMethod]) -> None:
    for method in sorted(methods):
        endpoint = getattr(server, method)
        router.add_api_route(_path(method), endpoint, methods=["POST"], openapi_extra=OPERATIONS[method])


def _plain(method: NameServerMethod, look_up: LookUp[Any]) -> Route:
    return openapi.PlainRoute(_path(method), look_up, methods=["POST"], operation=OPERATIONS[method])


def _path(method: NameServerMethod) -> str:
    return f"/nameserver/{method}"


def _listing(services: Sequence[ServerInfo]) -> dict[str, list[dict[str, Any]]]:
    return {
        "services": [
            {"name": info.name, "host": info.host, "port": info.port, "protocol": info.protocol} for info in services
        ]
    }
