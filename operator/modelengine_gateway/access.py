"""Who asks, and what that key may: the door for keys, and the backend that shows each caller only its own models.

The door (ASGI, before everything that reads a request) finds out whose key was sent; the guarded backend refuses what
the key may not use, in the very words for what does not exist, and counts. A front door without keys has neither.
Limits are each process's own: two front doors let twice as much through.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modelengine import errors
from modelengine.chats import ChatRequest
from modelengine.protocol import NameServerMethod, ServerInfo
from modelengine.vectors import EmbedRequest, RerankRequest
from modelengine_api import calls, doors, streaming
from modelengine_api.backend import Backend, ModelCard
from modelengine_gateway.keyfile import KeyFile
from modelengine_gateway.keys import Key, Opens
from modelengine_gateway.ratelimits import Meter

Clock = Callable[[], float]

# Probes, and the page, which asks for the key itself and sends it with what it fetches.
OPEN_PATHS = frozenset({"/", "/health", "/ready", "/favicon.ico"})
OPEN_FOLDERS = ("/page/",)
NAME_SERVER = "/nameserver/"
# A report only makes this server ask the engine: whoever has its address may send one.
SCOPES_OF = {
    f"{NAME_SERVER}{method}": scopes
    for method, scopes in {
        NameServerMethod.REGISTER: (Opens.REGISTER,),
        NameServerMethod.DEREGISTER: (Opens.REGISTER,),
        NameServerMethod.REPORT: (Opens.NAMES, Opens.REGISTER),
    }.items()
}
HTTP_PORT = 80
HTTPS_PORT = 443
NO_KEY = "an API key is needed: authorization: Bearer KEY"


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose request this is, and what that key has used."""

    key: Key
    meter: Meter
    file: KeyFile

    @property
    def is_restricted(self) -> bool:
        """Whether there may be models that do not exist for it, or addresses that it is not told."""
        return "*" not in self.key.models or Opens.NAMES not in self.key.scopes

    def check(self) -> None:
        """For answers that last: raises Unauthorized when the key was taken away meanwhile, and Unavailable when it
        may do other things now than when it came in."""
        now = next((key for key in self.file.keys if key.digest == self.key.digest), None)
        if now is None:
            raise errors.Unauthorized("this API key is not known any more")
        if now != self.key:
            raise errors.Unavailable("what this API key may do has changed; ask again")


_caller: ContextVar[Caller | None] = ContextVar("caller", default=None)


def caller() -> Caller | None:
    """Who sent the request that is being answered; None where no keys are asked for."""
    return _caller.get()


class Door:
    """Lets nobody in without a key that is known, and says with each answer what the key has left."""

    def __init__(self, app: ASGIApp, file: KeyFile, clock: Clock = time.monotonic) -> None:
        self._app = app
        self._file = file
        self._clock = clock
        self._meters: dict[str, Meter] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or is_open(scope["method"], scope["path"]):
            return await self._app(scope, receive, send)
        given = given_key(scope["headers"])
        key = self._file.owner(given) if given else None
        if key is None:
            return await _unauthorized(scope, receive, send)
        needed = SCOPES_OF.get(scope["path"], ())
        if needed and key.scopes.isdisjoint(needed):
            refused = errors.Forbidden(f"this key lacks the scope {' or '.join(map(repr, map(str, needed)))}")
            return await doors.refusal(refused, scope["path"])(scope, receive, send)
        calls.asked_by(key.name)
        meter = self._meter(key)
        token = _caller.set(Caller(key, meter, self._file))

        async def telling(message: Message) -> None:
            if message["type"] == "http.response.start":
                left = meter.headers(self._clock())
                message["headers"] = [*message["headers"], *((k.encode(), v.encode()) for k, v in left.items())]
            await send(message)

        try:
            await self._app(scope, receive, telling)
        finally:
            _caller.reset(token)

    def _meter(self, key: Key) -> Meter:
        """Kept over a change of the file, unless it changed this key's limits."""
        meter = self._meters.get(key.name)
        if meter is None or meter.limits != key.limits:
            meter = self._meters[key.name] = Meter(key.limits, self._clock())
        return meter


def is_open(method: str, path: str) -> bool:
    """Whether this is answered without a key."""
    return method in ("GET", "HEAD") and (path in OPEN_PATHS or path.startswith(OPEN_FOLDERS))


def given_key(headers: Sequence[tuple[bytes, bytes]]) -> str:
    """The key in these headers, empty when there is none. `authorization` goes before `x-api-key`."""
    found = ""
    for name, value in headers:
        if name == b"authorization":
            kind, _, key = value.decode("latin-1").partition(" ")
            if kind.lower() == "bearer":
                return key.strip()
        elif name == b"x-api-key":
            found = value.decode("latin-1").strip()
    return found


async def _unauthorized(scope: Scope, receive: Receive, send: Send) -> None:
    response = doors.refusal(errors.Unauthorized(NO_KEY), scope["path"])
    response.headers["www-authenticate"] = "Bearer"
    await response(scope, receive, send)


def sees(model: str) -> bool:
    """Whether the model exists for the caller."""
    who = caller()
    return who is None or who.key.sees(model)


def may(what: Opens) -> bool:
    who = caller()
    return who is None or what in who.key.scopes


def shown(services: Sequence[ServerInfo], scope: Scope) -> Sequence[ServerInfo]:
    """What the caller is told of these replicas: of the models that exist for it, and where it may not have their
    addresses, one each at this front door, which relays. `scope` is the request's."""
    if caller() is None:
        return services
    seen = [info for info in services if sees(info.name)]
    if may(Opens.NAMES):
        return seen
    host, port = asked_at(scope)
    return list(dict.fromkeys(ServerInfo(info.name, host, port, info.protocol) for info in seen))


def asked_at(scope: Scope) -> tuple[str, int]:
    """Where the client reaches this server, by its own words, the Host header; where that has no port, by how it came
    to whoever ends TLS before us. Only the client itself is told, so neither needs to be believed."""
    default = HTTPS_PORT if _first(scope, b"x-forwarded-proto").lower() == "https" else HTTP_PORT
    try:
        parts = urlsplit(f"//{_first(scope, b'host')}")
        if parts.hostname:
            return parts.hostname, parts.port or default
    except ValueError:
        pass
    host, port = scope.get("server") or ("127.0.0.1", HTTP_PORT)
    return host, port or HTTP_PORT


def _first(scope: Scope, wanted: bytes) -> str:
    """The header's value, empty where there is none; of several with commas between, the client's, which is first."""
    given = next((value for name, value in scope["headers"] if name == wanted), b"")
    return given.decode("latin-1").partition(",")[0].strip()


class Guarded:
    """A `Backend` that shows each caller what its key may use, and counts what it does."""

    def __init__(self, inner: Backend, clock: Clock = time.monotonic) -> None:
        self._inner = inner
        self._clock = clock

    def models(self) -> Sequence[ModelCard]:
        return [card for card in self._inner.models() if sees(card.name)]

    async def stream(self, request: ChatRequest) -> AsyncIterator[bytes]:
        with self._asking(request.model) as charge:
            before = last = b""
            try:
                async with streaming.closing(self._inner.stream(_salted(request))) as lines:
                    async for part in lines:
                        before, last = last, part
                        yield part
            finally:
                charge(last_part(before + last))

    async def whole(self, request: ChatRequest) -> Mapping[str, Any]:
        with self._asking(request.model) as charge:
            answer = await self._inner.whole(_salted(request))
            charge(answer)
            return answer

    async def embed(self, request: EmbedRequest) -> Mapping[str, Any]:
        with self._asking(request.model) as charge:
            answer = await self._inner.embed(request)
            charge(answer)
            return answer

    async def rerank(self, request: RerankRequest) -> Mapping[str, Any]:
        with self._asking(request.model) as charge:
            answer = await self._inner.rerank(request)
            charge(answer)
            return answer

    async def info(self, model: str | None) -> Mapping[str, Any]:
        with self._in_its_words(model):
            return await self._inner.info(model)

    async def support_methods(self, model: str | None) -> Sequence[str]:
        with self._in_its_words(model):
            return await self._inner.support_methods(model)

    @contextmanager
    def _asking(self, model: str) -> Iterator[Callable[[Mapping[str, Any]], None]]:
        """Takes a place of the key's, and charges what the answer has come to when it ends."""
        who = caller()
        if who is None:
            yield lambda answer: None
            return
        used = 0

        def charge(answer: Mapping[str, Any]) -> None:
            nonlocal used
            used = tokens(answer)

        with self._in_its_words(model):
            if Opens.CHAT not in who.key.scopes:
                raise errors.Forbidden(f"this key lacks the scope {str(Opens.CHAT)!r}")
            who.meter.admit(self._clock())
            try:
                yield charge
            finally:
                who.meter.done(used, self._clock())

    @contextmanager
    def _in_its_words(self, model: str | None) -> Iterator[None]:
        """A model that the caller may not use and one that is not there are one and the same NotFound."""
        who = caller()
        if who is None or model is None:
            yield
            return
        try:
            if not who.key.sees(model):
                raise errors.NotFound(model)
            yield
        except errors.NotFound:
            raise errors.unknown_name("model", model, [card.name for card in self.models()]) from None


def _salted(request: ChatRequest) -> ChatRequest:
    """The request as the caller's key keeps its cache apart from those of others."""
    who = caller()
    return request if who is None else replace(request, cache_salt=who.key.salt(request.cache_salt))


def tokens(answer: Mapping[str, Any]) -> int:
    """What an answer came to, its prompt included; also of a part in the middle of one that broke off."""
    prompt = answer.get("prompt_tokens") or answer.get("prompt_length") or 0
    said = answer.get("completion_tokens") or answer.get("response_length") or 0
    return int(prompt) + int(said)


def last_part(lines: bytes) -> Mapping[str, Any]:
    """The last part in these lines, before an error if there is one. Looked for once, when a stream has ended."""
    for line in reversed(lines.splitlines()):
        with suppress(orjson.JSONDecodeError, LookupError, TypeError):
            msg = orjson.loads(line)["msg"]
            if isinstance(msg, dict):
                return msg
    return {}
