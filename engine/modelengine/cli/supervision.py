"""What `up` decides: which child is started, restarted, stopped or given up, and what is said about it.

Pure: events and the time go in, actions come out; `supervisor.py` carries them out. A child lives like this:

    WAITING -> STARTING -> READY        exits unasked -> WAITING (restart, later each time), or everything is given up
    STARTING, READY -> STOPPING -> GONE

Stopping, in order: engines are asked first, for they take themselves off the list; when none of them is listed any
more the name server is asked; and whatever takes too long is killed.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from modelengine import announce
from modelengine.protocol import ServerInfo

NAME_SERVER = "name server"
FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 30.0
# Ready for so long, an earlier crash no longer counts.
STABLE_S = 60.0
CRASHES_IN_A_ROW = 5
# What a child may take beyond its grace: saying good-bye to the name server, and closing what is open.
STOP_SLACK_S = 10.0


class Status(Enum):
    WAITING = auto()
    STARTING = auto()
    READY = auto()
    STOPPING = auto()
    GONE = auto()


ALIVE = (Status.STARTING, Status.READY, Status.STOPPING)


@dataclass(frozen=True, slots=True)
class Start:
    child: str


@dataclass(frozen=True, slots=True)
class Signal:
    child: str
    number: signal.Signals


@dataclass(frozen=True, slots=True)
class Show:
    """A line of the transcript, on stdout."""

    line: str


@dataclass(frozen=True, slots=True)
class Tell:
    """A remark, on stderr."""

    line: str


Action = Start | Signal | Show | Tell


@dataclass(slots=True)
class Child:
    title: str
    status: Status = Status.WAITING
    pid: int | None = None
    # WAITING: when to start it, None before its turn. STOPPING: when to kill it.
    due: float | None = None
    ready_since: float | None = None
    has_been_ready: bool = False
    # `crashes` since it was last stable makes the delay; `fruitless` ones, in a row and never ready, end everything.
    crashes: int = 0
    fruitless: int = 0

    @property
    def is_alive(self) -> bool:
        return self.status in ALIVE

    @property
    def delay_s(self) -> float:
        return min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** (self.crashes - 1))


@dataclass(slots=True)
class Supervision:
    """The state of one `up`.

    `hint` is what to tell the user once the first engine, or all there is, runs; `{port}` and `{name}` are filled in.
    Empty when nobody sits in front of it.
    """

    engine_titles: Sequence[str]
    grace_s: float
    hint: str = ""
    exit_code: int = 0
    is_stopping: bool = False
    name_server: Child = field(default_factory=lambda: Child(NAME_SERVER))
    engines: list[Child] = field(init=False)
    _port: int = 0
    _listed: frozenset[int] = frozenset()
    _is_hinted: bool = False
    _clean_ups_held: int = 0

    def __post_init__(self) -> None:
        self.engines = [Child(title) for title in self.engine_titles]

    @property
    def children(self) -> list[Child]:
        return [self.name_server, *self.engines]

    @property
    def is_over(self) -> bool:
        return all(child.status is Status.GONE for child in self.children)

    @property
    def next_due(self) -> float | None:
        return min((child.due for child in self.children if child.due is not None), default=None)

    def begin(self) -> list[Action]:
        return [self._start(self.name_server)]

    def started(self, title: str, pid: int) -> None:
        self._child(title).pid = pid

    def listening(self, port: int, now: float) -> list[Action]:
        """The name server listens: engines that have not had their turn start now."""
        actions: list[Action] = [Show(announce.name_server_runs(port))]
        self._port = port
        if self.name_server.status is Status.STARTING:
            _becomes_ready(self.name_server, now)
            actions += [self._start(engine) for engine in self.engines if engine.pid is None]
        return actions + ([] if self.engines else self._hint_once(""))

    def listed(self, services: Mapping[int, ServerInfo], now: float) -> list[Action]:
        """What the name server lists, by the pid that serves it."""
        self._listed = frozenset(services)
        actions: list[Action] = []
        for engine in self.engines:
            service = services.get(engine.pid or 0)
            if engine.status is Status.STARTING and service is not None:
                _becomes_ready(engine, now)
                actions.append(Show(announce.engine_runs(service.name, service.port)))
                actions += self._hint_once(service.name)
        return actions + self._stop_name_server_in_turn(now)

    def exited(self, title: str, returncode: int, now: float) -> list[Action]:
        child = self._child(title)
        pid, was, child.due = child.pid, child.status, None
        if self.is_stopping:
            child.status = Status.GONE
            self._clean_ups_held += child is not self.name_server
            own = [Show(announce.NAME_SERVER_GONE)] if child is self.name_server else []
            return [*own, *self._engine_clean_ups(), *self._stop_name_server_in_turn(now)]
        said = f"{title} (pid {pid}) ended with {_how(returncode)}"
        if was is Status.STARTING and not child.has_been_ready and returncode > 0:
            # It has said why on stderr, and would say it again.
            child.status = Status.GONE
            return self._give_up(f"{said} at its start", now)
        self._count_crash(child, now)
        if child.fruitless >= CRASHES_IN_A_ROW:
            child.status = Status.GONE
            return self._give_up(f"{said}; given up after {child.fruitless} crashes in a row", now)
        child.status, child.due = Status.WAITING, now + child.delay_s
        return [Tell(f"{said}; restarting in {child.delay_s:g} s")]

    def asked_to_stop(self, now: float) -> list[Action]:
        """Ctrl-C or SIGTERM: the first one is polite, the second is not."""
        if self.is_stopping:
            return [Signal(child.title, signal.SIGKILL) for child in self.children if child.is_alive]
        return [*([Tell("stopping; Ctrl-C again forces")] if self.hint else []), *self._stop_all(now)]

    def tick(self, now: float) -> list[Action]:
        """Does what is due."""
        actions: list[Action] = []
        for child in self.children:
            if child.due is None or child.due > now:
                continue
            child.due = None
            if child.status is Status.WAITING:
                actions.append(self._start(child))
            else:
                actions += [
                    Tell(f"{child.title} (pid {child.pid}) does not stop; killed"),
                    Signal(child.title, signal.SIGKILL),
                ]
        return actions

    def _child(self, title: str) -> Child:
        return next(child for child in self.children if child.title == title)

    def _start(self, child: Child) -> Start:
        child.status, child.due = Status.STARTING, None
        return Start(child.title)

    def _count_crash(self, child: Child, now: float) -> None:
        was_stable = child.ready_since is not None and now - child.ready_since >= STABLE_S
        child.crashes = 1 if was_stable else child.crashes + 1
        child.fruitless = child.fruitless + 1 if child.ready_since is None else 0
        child.ready_since = None

    def _give_up(self, reason: str, now: float) -> list[Action]:
        self.exit_code = 1
        return [Tell(reason), *self._stop_all(now)]

    def _stop_all(self, now: float) -> list[Action]:
        self.is_stopping = True
        for child in self.children:
            if not child.is_alive:
                child.status, child.due = Status.GONE, None
        return [*self._ask(self.engines, now), *self._stop_name_server_in_turn(now)]

    def _stop_name_server_in_turn(self, now: float) -> list[Action]:
        still_listed = any(engine.is_alive and engine.pid in self._listed for engine in self.engines)
        if not self.is_stopping or still_listed or self.name_server.status is Status.STOPPING:
            return []
        return self._ask([self.name_server], now)

    def _ask(self, children: Iterable[Child], now: float) -> list[Action]:
        asked = [child for child in children if child.is_alive]
        for child in asked:
            child.status, child.due = Status.STOPPING, now + self.grace_s + STOP_SLACK_S
        return [Signal(child.title, signal.SIGTERM) for child in asked]

    def _engine_clean_ups(self) -> list[Action]:
        """The seed's order: the name server's line comes first, whoever is gone first."""
        if self.name_server.status is not Status.GONE:
            return []
        held, self._clean_ups_held = self._clean_ups_held, 0
        return [Show(announce.ENGINE_GONE)] * held

    def _hint_once(self, name: str) -> list[Action]:
        if self._is_hinted or not self.hint:
            return []
        self._is_hinted = True
        return [Tell(self.hint.format(port=self._port, name=name))]


def _becomes_ready(child: Child, now: float) -> None:
    child.status, child.ready_since, child.has_been_ready = Status.READY, now, True


def _how(returncode: int) -> str:
    return f"signal {-returncode}" if returncode < 0 else f"exit code {returncode}"
