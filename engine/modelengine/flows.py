"""What each client call sends and how its answer is read: generators without a socket.

A flow yields an effect (send this, open that stream, pause), is sent the outcome, and returns the call's result.
Failures of the transport are thrown into it. `client.py` drives the flows with blocking sockets, `aio.py` with
asyncio; so retries, waiting and the reading of answers are written once, here.
"""

from __future__ import annotations

import dataclasses
import os
import random
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

from modelengine import addresses, env, errors, wire
from modelengine.chats import ChatChunk, ChatRequest, ChatResponse
from modelengine.protocol import (
    CHAT,
    DEFAULT_PORT,
    EMBED,
    METHOD_OF,
    PROTOCOLS,
    RERANK,
    EngineMethod,
    NameServerMethod,
    ServerInfo,
    from_json,
    host_in_url,
    to_json,
)
from modelengine.vectors import EmbedRequest, EmbedResponse, RerankRequest, RerankResponse

HOST_VARIABLE = "MODELENGINE_HOST"
RELAYED_VARIABLE = "MODELENGINE_RELAYED"
KEY_VARIABLE = "MODELENGINE_API_KEY"
CALL_TIMEOUT_S = 10.0
# One long-poll of `wait`; shorter than what a proxy on the way would cut.
WAIT_POLL_S = 20.0
RETRY_PAUSE_S = 0.2
# Whoever has no time to wait still asks once.
SHORTEST_POLL_S = 0.001
# So many replicas in a row that nobody answers at are no accident: there is no way to them from here.
ENOUGH_DEAD = 2


@dataclass(frozen=True, slots=True)
class Send:
    """POST `body` and read the whole answer; its outcome is the `msg` of the envelope."""

    url: str
    body: Mapping[str, Any]
    timeout_s: float = CALL_TIMEOUT_S


@dataclass(frozen=True, slots=True)
class Open:
    """POST `body` and leave the answer open; its outcome is a stream of `msg` values. `timeout_s` is per read."""

    url: str
    body: Mapping[str, Any]
    timeout_s: float = CALL_TIMEOUT_S


@dataclass(frozen=True, slots=True)
class Pause:
    seconds: float


Effect = Send | Open | Pause
Result = TypeVar("Result")
Part = TypeVar("Part", covariant=True)
Flow = Generator[Effect, Any, Result]


def base_url(host: str | None) -> str:
    """The name server's URL from an argument, else `MODELENGINE_HOST`, else localhost:9527.

    Accepts `host`, `host:port`, `[v6]:port` and `http://host:port`; raises InvalidRequest for anything else.
    """
    given = host or os.environ.get(HOST_VARIABLE) or f"127.0.0.1:{DEFAULT_PORT}"
    parts = urlsplit(given if "://" in given else f"http://{given}")
    try:
        port = parts.port
    except ValueError:
        port = 0
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise errors.InvalidRequest(f"host: expected HOST, HOST:PORT or http://HOST:PORT, got {given!r}")
    default_port = DEFAULT_PORT if parts.scheme == "http" else 443
    return f"{parts.scheme}://{host_in_url(parts.hostname)}:{port or default_port}{parts.path.rstrip('/')}"


def key_headers(base: str, api_key: str | None) -> Callable[[str], Mapping[str, str]]:
    """What to send to a URL: the key, from an argument, else `MODELENGINE_API_KEY`; to the name server and no other.

    An engine needs none, and might be anybody's. Raises InvalidRequest for a key that no header can carry.
    """
    key = (os.environ.get(KEY_VARIABLE, "") if api_key is None else api_key).strip()
    if not key.isascii() or not (key.isprintable()):
        raise errors.InvalidRequest("api_key: may have printable ASCII characters only")
    headers = {"authorization": f"Bearer {key}"} if key else {}
    home = urlsplit(base)[:2]
    return lambda url: headers if urlsplit(url)[:2] == home else {}


@dataclass(slots=True)
class Way:
    """How requests reach an engine: straight to a replica, or `relayed` by the name server, where there is no way.

    One for each client, because it learns: a way that turned out to be none is not tried again.
    """

    relayed: bool = False
    was_reached: bool = False


def way(base: str, relayed: bool | None) -> Way:
    """From an argument, else `MODELENGINE_RELAYED`, else by the address: behind TLS stands an ingress, no network."""
    if relayed is None and os.environ.get(RELAYED_VARIABLE):
        relayed = env.flag(os.environ, RELAYED_VARIABLE)
    return Way(base.startswith("https:") if relayed is None else relayed)


def nameserver(
    base: str, method: NameServerMethod, data: Mapping[str, Any], timeout_s: float = CALL_TIMEOUT_S
) -> Flow[Any]:
    return (yield Send(f"{base}/nameserver/{method}", data, timeout_s))


def get_services(base: str, protocol: str, name: str) -> Flow[list[ServerInfo]]:
    msg = yield from nameserver(base, NameServerMethod.GET_SERVICES, {"protocol": protocol, "name": name})
    return [from_json(ServerInfo, service) for service in msg["services"]]


def get_service_names(base: str, protocol: str) -> Flow[list[str]]:
    msg = yield from nameserver(base, NameServerMethod.GET_SERVICE_NAMES, {"protocol": protocol})
    return list(msg["service_names"])


def wait_service_available(
    base: str, protocol: str | None, name: str, timeout_s: float, clock: Callable[[], float] = time.monotonic
) -> Flow[list[ServerInfo]]:
    """Waits for the name, whatever it speaks where no protocol is given; a name server that is away or restarting is
    waited for as well. Raises WaitTimeout."""
    deadline = clock() + timeout_s
    asked = False
    while (left := deadline - clock()) > 0 or not asked:
        asked = True
        poll_s = min(max(left, SHORTEST_POLL_S), WAIT_POLL_S)
        try:
            query = {"name": name, "timeout_s": poll_s} | ({} if protocol is None else {"protocol": protocol})
            msg = yield from nameserver(base, NameServerMethod.WAIT, query, CALL_TIMEOUT_S + poll_s)
            return [from_json(ServerInfo, service) for service in msg["services"]]
        except errors.WaitTimeout:
            continue
        except (errors.ConnectionFailed, errors.Unavailable):
            yield Pause(min(RETRY_PAUSE_S, max(0.0, deadline - clock())))
    raise errors.WaitTimeout(f"{name!r} is not available after {timeout_s:g} s (name server {base})")


def on_an_engine(
    base: str,
    protocol: str,
    name: str,
    make_effect: Callable[[str], Effect],
    way: Way,
    shuffle: Callable[[list[Any]], None] = random.shuffle,
    is_elsewhere: Callable[[str], bool] = addresses.is_elsewhere,
) -> Flow[Any]:
    """Carries the effect out on one replica of the name, chosen at random, as the seed does; `make_effect` is told its
    URL, or the name server's own where that relays.

    Another replica is tried only while nothing of the answer has come: nobody answers, or it is full or stopping.
    A replica that nobody answers at is reported to the name server at once.
    Raises NotFound for an unknown name, InvalidRequest for one that speaks another protocol, else what the last replica
    said.
    """
    if way.relayed:
        return (yield make_effect(base))
    services = yield from get_services(base, protocol, name)
    if not services:
        raise (yield from not_served(base, protocol, name))
    if is_tunnel(base, services, is_elsewhere):
        way.relayed = True
        return (yield make_effect(base))
    shuffle(services)
    failure: errors.ModelEngineError | None = None
    dead = 0
    for service in services:
        try:
            outcome = yield make_effect(service.url)
            way.was_reached = True
            return outcome
        except errors.ConnectionFailed as nobody:
            failure = nobody
            dead += 1
            yield from report(base, service)
            if dead == ENOUGH_DEAD and not way.was_reached:
                break
        except (errors.Busy, errors.Unavailable) as refused:
            failure = refused
            way.was_reached = True
    assert failure is not None
    if way.was_reached:
        raise failure
    return (yield from _relayed_after_all(base, make_effect, way, failure))


def not_served(base: str, protocol: str, name: str) -> Flow[errors.ModelEngineError]:
    """Why nobody answers to the name: others may, for another purpose."""
    for other in PROTOCOLS:
        if other != protocol and (yield from get_services(base, other, name)):
            return errors.speaks_another(name, [other], protocol)
    return errors.unknown_name("model", name, (yield from get_service_names(base, protocol)))


def is_tunnel(base: str, services: Iterable[ServerInfo], is_elsewhere: Callable[[str], bool]) -> bool:
    """Whether the name server's address is the near end of a port-forward: here, while all that it lists is not."""
    is_here = addresses.is_loopback(urlsplit(base).hostname or "")
    return is_here and all(is_elsewhere(service.host) for service in services)


def _relayed_after_all(
    base: str, make_effect: Callable[[str], Effect], way: Way, failure: errors.ModelEngineError
) -> Flow[Any]:
    """The last try of a client that has never reached a replica. Raises `failure` where the name server has no way
    either."""
    try:
        outcome = yield make_effect(base)
    except (errors.ConnectionFailed, errors.Unavailable, errors.NotFound) as neither:
        raise failure from neither
    way.relayed = True
    return outcome


def report(base: str, service: ServerInfo) -> Flow[None]:
    """Tells the name server that nobody answers there. Its own absence is no news: the lease ends anyway."""
    try:
        yield from nameserver(base, NameServerMethod.REPORT, to_json(service))
    except errors.ModelEngineError:
        return


def engine_call(base: str, protocol: str, name: str, method: EngineMethod, way: Way | None = None) -> Flow[Any]:
    def ask(url: str) -> Effect:
        return Send(f"{url}/engine/{method}", {"model": name})

    return (yield from on_an_engine(base, protocol, name, ask, way or Way()))


def chat(base: str, request: ChatRequest, timeout_s: float, way: Way | None = None) -> Flow[ChatResponse]:
    def ask(url: str) -> Effect:
        return Send(_inference(url), to_json(request), timeout_s)

    return from_json(ChatResponse, (yield from on_an_engine(base, CHAT, request.model, ask, way or Way())))


def embed(base: str, request: EmbedRequest, timeout_s: float, way: Way | None = None) -> Flow[EmbedResponse]:
    """The vectors as numbers, though they come as base64: a quarter of the bytes, and little to read."""
    request = dataclasses.replace(request, encoding="base64")
    msg = yield from _whole(base, EMBED, request, timeout_s, way)
    return from_json(EmbedResponse, {**msg, "vectors": [wire.decode_vector(vector) for vector in msg["vectors"]]})


def rerank(base: str, request: RerankRequest, timeout_s: float, way: Way | None = None) -> Flow[RerankResponse]:
    return from_json(RerankResponse, (yield from _whole(base, RERANK, request, timeout_s, way)))


def _whole(
    base: str, protocol: str, request: EmbedRequest | RerankRequest, timeout_s: float, way: Way | None
) -> Flow[Any]:
    def ask(url: str) -> Effect:
        return Send(f"{url}/engine/{METHOD_OF[protocol]}", to_json(request), timeout_s)

    return (yield from on_an_engine(base, protocol, request.model, ask, way or Way()))


def open_chat(base: str, request: ChatRequest, timeout_s: float, way: Way | None = None) -> Flow[Any]:
    def ask(url: str) -> Effect:
        return Open(_inference(url), to_json(request), timeout_s)

    return (yield from on_an_engine(base, CHAT, request.model, ask, way or Way()))


def _inference(url: str) -> str:
    return f"{url}/engine/{EngineMethod.INFERENCE}"


def register(base: str, service: ServerInfo) -> Flow[dict[str, Any]]:
    return dict((yield from nameserver(base, NameServerMethod.REGISTER, to_json(service))))


def deregister(base: str, service: ServerInfo) -> Flow[bool]:
    return bool((yield from nameserver(base, NameServerMethod.DEREGISTER, to_json(service)))["founded"])


def open_watch(base: str, protocol: str | None, name: str | None, timeout_s: float) -> Flow[Any]:
    query = {key: value for key, value in (("protocol", protocol), ("name", name)) if value is not None}
    return (yield Open(f"{base}/nameserver/{NameServerMethod.WATCH}", query, timeout_s))


class PartsReader(Protocol[Part]):
    """Bytes in, parts out. `end` is called when the connection has ended, and says whether it may.

    `done`: nothing is missing any more, however the connection ends.
    """

    done: bool

    def feed(self, data: bytes) -> Iterable[Part]: ...
    def end(self) -> None: ...


class ChatParts:
    """Reads the bytes of a chat stream as parts. Both clients use it: they only bring the bytes."""

    def __init__(self) -> None:
        self._lines = wire.LineDecoder()
        self.done = False

    def feed(self, data: bytes) -> Iterator[ChatChunk]:
        """The parts that these bytes complete; after them, raises the error that an error line carries."""
        for envelope in self._lines.feed(data):
            part = from_json(ChatChunk, wire.unwrap(envelope))
            self.done = self.done or part.done
            yield part

    def end(self) -> None:
        """The connection ended. Raises StreamBroken unless the final part had come: an end is never silent."""
        if not self.done:
            raise errors.StreamBroken("the engine's answer stopped before its final part")


class WatchParts:
    """Reads the bytes of a watch as full lists of services."""

    def __init__(self) -> None:
        self.done = False
        self._lines = wire.LineDecoder()

    def feed(self, data: bytes) -> list[list[ServerInfo]]:
        snapshots = [wire.unwrap(envelope) for envelope in self._lines.feed(data)]
        return [[from_json(ServerInfo, service) for service in snapshot["services"]] for snapshot in snapshots]

    def end(self) -> None:
        raise errors.StreamBroken("the name server ended the watch; open it again")


def read_reply(status: int, body: bytes, url: str) -> Any:
    """The `msg` of a whole answer. Raises the error that it carries, whatever the status says."""
    try:
        return wire.unwrap(wire.decode(body))
    except errors.StreamBroken as foreign:
        raise errors.ConnectionFailed(
            f"{url} answers, but not as a ModelEngine server (HTTP {status}): {foreign.message}"
        ) from foreign
