"""What every directory of names can do: tell who waits or watches of a change, and ask an engine whether it answers.

The name server's routes and the relay know only this class. Where the names come from is in its two kinds: engines
that register themselves (`leases.py`, on one machine), or the ConfigMaps of a cluster (`configmaps.py`).
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
import contextvars
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from modelengine import errors
from modelengine.protocol import ServerInfo

log = logging.getLogger(__name__)

Result = TypeVar("Result")
Probe = Callable[[ServerInfo], Coroutine[Any, Any, bool]]

KEEP_ALIVE_S = 10.0


def background(work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
    """A task that outlives the request that was its reason, and so carries neither its id nor its caller."""
    return asyncio.create_task(work, context=contextvars.Context())


@dataclass(eq=False, slots=True)
class Watcher:
    """Somebody who waits for a change of what the filter lets through; None lets everything through. No name exists for
    him of which `knows` is false."""

    protocol: str | None
    name: str | None
    knows: Callable[[str], bool] | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def sees(self, info: ServerInfo) -> bool:
        if self.knows is not None and not self.knows(info.name):
            return False
        return self.protocol in (None, info.protocol) and self.name in (None, info.name)


class Directory(abc.ABC):
    """Names to addresses that answer, with waits and watches on them."""

    def __init__(self, kind: str, probe: Probe) -> None:
        self.kind = kind
        self._probe = probe
        self._watchers: set[Watcher] = set()
        self._probes: dict[ServerInfo, asyncio.Task[bool]] = {}
        self._reports: set[asyncio.Task[bool]] = set()
        self._is_closed = False
        # How often a replica was taken off the list because it did not answer.
        self.ejections = 0

    @property
    @abc.abstractmethod
    def revision(self) -> int:
        """Grows whenever what is listed changes."""

    @abc.abstractmethod
    def services(self, protocol: str, name: str) -> list[ServerInfo]:
        """The replicas of the name that may be asked; empty for an unknown one."""

    @abc.abstractmethod
    def names(self, protocol: str) -> list[str]:
        """The names that have such a replica."""

    @abc.abstractmethod
    def all(self) -> list[ServerInfo]: ...

    def known(self) -> list[tuple[str, str]]:
        """Protocol and name of all that can be asked for, also where no replica is ready now; sorted by name."""
        return sorted({(info.protocol, info.name) for info in self.all()}, key=lambda known: known[::-1])

    def protocols(self, name: str) -> list[str]:
        """What the models of that name speak, also where no replica is ready now."""
        return [protocol for protocol, known in self.known() if known == name]

    @abc.abstractmethod
    async def keep(self) -> None:
        """Keeps the directory true. Runs as long as the server."""

    @abc.abstractmethod
    def unlist(self, info: ServerInfo) -> None:
        """Nobody answers there: takes it off the list at once, if it is on it."""

    def missing(self, protocol: str, name: str) -> errors.ModelEngineError:
        """What to tell who asked for a name that has no replica."""
        return errors.unknown_name("model", name, self.names(protocol))

    def why_not_ready(self) -> str | None:
        """Why look-ups can't be answered truly yet; None when they can."""
        return None

    def details(self) -> Mapping[str, Any]:
        """What `info` adds about this kind."""
        return {}

    def lists(self, info: ServerInfo) -> bool:
        return info in self.services(info.protocol, info.name)

    async def report(self, info: ServerInfo) -> bool:
        """A client could not reach the engine: asks it, and unlists it when it does not answer. True: still listed.

        A client's word alone takes nobody off the list.
        """
        if self.lists(info) and not await self._is_ready(info):
            self.unlist(info)
        return self.lists(info)

    def unreachable(self, info: ServerInfo) -> None:
        """The front door itself could not reach the engine."""
        self.suspect(info)

    def suspect(self, info: ServerInfo) -> None:
        """An answer of the engine broke off: looks into it, while the caller goes on."""
        task = background(self.report(info))
        self._reports.add(task)
        task.add_done_callback(self._reports.discard)

    async def _is_ready(self, info: ServerInfo) -> bool:
        """Asks the engine; whoever wants to know meanwhile shares the answer, as all do when a busy replica dies."""
        if info not in self._probes:
            probe = background(self._probe(info))
            self._probes[info] = probe
            probe.add_done_callback(lambda _: self._probes.pop(info))
        probe = self._probes[info]
        await asyncio.wait([probe])
        return probe.result()

    async def wait(
        self, protocol: str | None, name: str, timeout_s: float, *, is_hidden: bool = False
    ) -> list[ServerInfo]:
        """The replicas of the name as soon as there are any, of every protocol where None is given; never, for whom
        they are hidden. Raises WaitTimeout."""
        try:
            async with asyncio.timeout(timeout_s):
                with self._watching(protocol, name) as watcher:
                    while is_hidden or not (services := self._serving(protocol, name)):
                        await self._next_change(watcher)
                    return services
        except TimeoutError:
            raise errors.WaitTimeout(f"{name!r} is not available after {timeout_s:g} s") from None

    def _serving(self, protocol: str | None, name: str) -> list[ServerInfo]:
        protocols = self.protocols(name) if protocol is None else [protocol]
        return [info for known in protocols for info in self.services(known, name)]

    async def watch(
        self, protocol: str | None, name: str | None, knows: Callable[[str], bool] | None = None
    ) -> AsyncGenerator[Sequence[ServerInfo], None]:
        """What the filter lets through: now, after each change of it, and again at least every KEEP_ALIVE_S."""
        with self._watching(protocol, name, knows) as watcher:
            while True:
                yield [info for info in self.all() if watcher.sees(info)]
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(KEEP_ALIVE_S):
                        await self._next_change(watcher)

    @contextlib.contextmanager
    def _watching(
        self, protocol: str | None, name: str | None, knows: Callable[[str], bool] | None = None
    ) -> Iterator[Watcher]:
        watcher = Watcher(protocol, name, knows)
        self._watchers.add(watcher)
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)

    async def _next_change(self, watcher: Watcher) -> None:
        """Returns at once when there was a change since the last call: none is lost on a watcher that is busy."""
        if not self._is_closed:
            await watcher.changed.wait()
            watcher.changed.clear()
        if self._is_closed:
            raise errors.Unavailable("the name server is stopping")

    def _announce(self, what: str, infos: Iterable[ServerInfo]) -> None:
        infos = list(infos)
        for info in infos:
            log.info("%s: %s %r at %s", what, info.protocol, info.name, info.url)
        for watcher in self._watchers:
            if any(watcher.sees(info) for info in infos):
                watcher.changed.set()

    @property
    def is_closed(self) -> bool:
        """Whether the server is stopping."""
        return self._is_closed

    async def close(self) -> None:
        """Ends every wait and watch, so that none holds up the stop of the server."""
        self._is_closed = True
        for watcher in self._watchers:
            watcher.changed.set()
