"""What a server has to say to Prometheus: a registry of its own, and a port that answers `GET /metrics`, nothing else.

Imported by servers only: the base install has no prometheus-client. The port is apart from the API's, so that whoever
may use the models need not be shown who else does. A scrape reads the process's state on its event loop, for that is
nobody else's, and makes the text of it in a thread, so that no answer waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gzip
import logging
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder

import modelengine
from modelengine import errors
from modelengine.env import METRICS_PORT, MetricsPort

log = logging.getLogger(__name__)

PATH = "/metrics"
HEAD_S = 5.0
MAX_HEAD_BYTES = 16 * 1024

# Reads what is shown, on the event loop, just before it is shown.
Look = Callable[[], None]
# The values of the labels, in their order -> the metric's.
Samples = Mapping[tuple[str, ...], float]


def registry(part: str) -> CollectorRegistry:
    """A registry with what each process of ours shows: its version as `part`, and what it takes of the machine."""
    # Else each counter has a second series, with the time of its birth, that few read.
    disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus_client says no types here
    made = CollectorRegistry()
    ProcessCollector(registry=made)
    build = Gauge("modelengine_build_info", "Always 1; the labels say what runs.", ("part", "version"), registry=made)
    build.labels(part, modelengine.__version__).set(1)
    return made


class Exposition:
    """The registry of one process, and the port that shows it while `served` runs; `port` None: nothing does."""

    def __init__(self, part: str, host: str = "", port: MetricsPort | None = None) -> None:
        """Listens at once. A port that was asked for and is taken raises PortTaken, a default one is done without."""
        self.registry = registry(part)
        self.looks: list[Look] = []
        self._is_asked_for = port is not None and port.is_asked_for
        self._socket = _listen(host, port) if port is not None else None
        self.port: int | None = self._socket.getsockname()[1] if self._socket is not None else None

    @contextlib.asynccontextmanager
    async def served(self) -> AsyncIterator[None]:
        if self._socket is None:
            yield
            return
        answering = _Answering(self.registry, self.looks)
        server = await asyncio.start_server(answering.answer, sock=self._socket, limit=MAX_HEAD_BYTES)
        # A default is known; which free port it is, is not.
        log.log(logging.INFO if self._is_asked_for else logging.DEBUG, "metrics at port %d", self.port)
        try:
            yield
        finally:
            # Not `async with server`: that would wait for whoever holds a connection open.
            server.close()
            await answering.close()


def gauge(name: str, meaning: str, labels: Sequence[str], samples: Samples) -> Metric:
    """What a collector read just now: a value for each combination of the labels' values."""
    family = GaugeMetricFamily(name, meaning, labels=labels)
    for values, value in samples.items():
        family.add_metric(values, value)
    return family


def counter(name: str, meaning: str, labels: Sequence[str], samples: Samples) -> Metric:
    """As `gauge`, of what only grows; the name ends in `_total`."""
    family = CounterMetricFamily(name, meaning, labels=labels)
    for values, value in samples.items():
        family.add_metric(values, value)
    return family


def _listen(host: str, port: MetricsPort) -> socket.socket | None:
    try:
        family = socket.getaddrinfo(host, port.number, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port.number), family=family)
    except OSError as failure:
        if not port.is_asked_for:
            log.debug("no metrics: port %d is taken; %s names another", port.number, METRICS_PORT)
            return None
        if failure.errno == errno.EADDRINUSE:
            raise errors.PortTaken(f"{METRICS_PORT}: port {port.number} on {host} is taken") from failure
        raise errors.InvalidRequest(f"{METRICS_PORT}: can't listen on {host}:{port.number}: {failure}") from failure


class _Answering:
    """One request per connection: a scraper comes twice a minute."""

    def __init__(self, registry: CollectorRegistry, looks: Sequence[Look]) -> None:
        self._registry = registry
        self._looks = looks
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def close(self) -> None:
        """Cuts off who is still being answered."""
        for writer in self._open.values():
            writer.transport.abort()
        if self._open:
            await asyncio.wait(list(self._open), timeout=HEAD_S)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = writer
        try:
            async with asyncio.timeout(HEAD_S):
                head = await reader.readuntil(b"\r\n\r\n")
            writer.write(await self._response(head))
            async with asyncio.timeout(HEAD_S):
                await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            # Whoever sends no request, or takes no answer, gets none.
            pass
        finally:
            writer.close()
            del self._open[task]

    async def _response(self, head: bytes) -> bytes:
        request, *lines = head.decode("latin-1").split("\r\n")
        method, _, target = request.partition(" ")
        if target.partition(" ")[0].partition("?")[0] != PATH:
            return _message("404 Not Found", b"only /metrics is here\n")
        if method not in ("GET", "HEAD"):
            return _message("405 Method Not Allowed", b"use GET\n", ("Allow: GET, HEAD",))
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        encode, kind = choose_encoder(headers.get("accept", ""))
        for look in self._looks:
            look()
        body = await asyncio.to_thread(encode, self._registry)
        more = [f"Content-Type: {kind}"]
        if "gzip" in headers.get("accept-encoding", ""):
            body = await asyncio.to_thread(gzip.compress, body, 1)
            more.append("Content-Encoding: gzip")
        return _message("200 OK", body, more, with_body=method == "GET")


def _message(status: str, body: bytes, headers: Sequence[str] = (), *, with_body: bool = True) -> bytes:
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "Connection: close", "", ""]
    return "\r\n".join(lines).encode() + (body if with_body else b"")
