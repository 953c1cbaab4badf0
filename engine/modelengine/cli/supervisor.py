"""Carries out what `supervision.py` decides: real processes, signals and the watch on the name server.

Everything that happens (a child ended, the list changed, Ctrl-C) becomes an event in one queue, which the main thread
takes one by one. Children get a pipe as stdin that nobody writes to: when this process dies, however it dies, the pipe
ends and they stop by themselves.
"""

from __future__ import annotations

import contextlib
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from modelengine import errors
from modelengine.cli.supervision import NAME_SERVER, Action, Show, Signal, Start, Supervision, Tell
from modelengine.env import EXIT_WITH_STDIN
from modelengine.flows import HOST_VARIABLE
from modelengine.protocol import ServerInfo

if TYPE_CHECKING:
    from modelengine.cli.replicas import Replicas

PORT_IN_LINE = re.compile(r"port: (\d+)")
WATCH_PAUSE_S = 0.2

Event = Callable[[float], Sequence[Action]]


@dataclass(frozen=True, slots=True)
class Command:
    argv: Sequence[str]
    env: Mapping[str, str]


class Supervisor:
    """Runs one name server and its engines, by title, until they are told to stop.

    `host` is where the name server can be reached, `api_key` what it is asked with. Its port is read from its first
    line on stdout and handed to the engines; a restarted name server is told to take the same one.
    """

    def __init__(
        self,
        plan: Supervision,
        name_server: Command,
        engines: Mapping[str, Command],
        host: str,
        api_key: str | None = None,
    ) -> None:
        self._plan = plan
        self._commands = {NAME_SERVER: name_server, **engines}
        self._host = host
        self._api_key = api_key
        self._port: int | None = None
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()

    def run(self, ends_with_stdin: bool = False) -> int:
        """Blocks until every child is gone; gives the exit code. Only the main thread may call it."""
        if ends_with_stdin:
            _in_background(self._read_stdin)
        with self._signals():
            try:
                self._do(self._plan.begin())
                while not self._plan.is_over:
                    event = self._next_event()
                    self._do(event(time.monotonic()))
            finally:
                self._kill_the_rest()
        return self._plan.exit_code

    def _next_event(self) -> Event:
        due = self._plan.next_due
        try:
            return self._events.get(timeout=None if due is None else max(0.0, due - time.monotonic()))
        except queue.Empty:
            return self._plan.tick

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number in before:
            # SimpleQueue.put is the one that may be called from inside itself, as a signal may.
            signal.signal(number, lambda *_: self._events.put(self._plan.asked_to_stop))
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _do(self, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case Start(child):
                    self._start(child)
                case Signal(child, number):
                    # A child that is already gone takes no signal; its end is in the queue.
                    self._processes[child].send_signal(number)
                case Show(line):
                    _print(line)
                case Tell(line):
                    print(line, file=sys.stderr, flush=True)

    def _start(self, title: str) -> None:
        command = self._commands[title]
        env = {**command.env, EXIT_WITH_STDIN: "1"}
        if title == NAME_SERVER:
            env |= {} if self._port is None else {"MODELENGINE_LISTEN_PORT": str(self._port)}
        else:
            env |= {HOST_VARIABLE: self._address}
        process = subprocess.Popen(
            command.argv,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if title == NAME_SERVER else subprocess.DEVNULL,
            text=True,
            # Ctrl-C is for this process alone; it stops its children in order.
            start_new_session=True,
        )
        self._processes[title] = process
        self._plan.started(title, process.pid)
        if title == NAME_SERVER:
            _in_background(lambda: self._read_port(process))
        _in_background(lambda: self._await_end(title, process))

    @property
    def _address(self) -> str:
        return f"{self._host}:{self._port}"

    def _await_end(self, title: str, process: subprocess.Popen[str]) -> None:
        returncode = process.wait()
        assert process.stdin is not None
        process.stdin.close()
        self._events.put(partial(self._plan.exited, title, returncode))

    def _read_port(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                if found := PORT_IN_LINE.search(line):
                    self._events.put(partial(self._listening, int(found[1])))

    def _listening(self, port: int, now: float) -> Sequence[Action]:
        is_first = self._port is None
        self._port = port
        if is_first:
            _in_background(self._watch)
        return self._plan.listening(port, now)

    def _watch(self) -> None:
        """Follows the list, over every restart of the name server, and finds out which of ours is behind an entry."""
        # Takes a while to import, and meanwhile the engine is loading.
        from modelengine.cli.replicas import Replicas

        client, pids = Replicas(self._address, api_key=self._api_key), dict[ServerInfo, int]()
        while not self._plan.is_over:
            try:
                with client.watch() as snapshots:
                    for services in snapshots:
                        pids = {service: pids.get(service) or _pid(client, service) for service in services}
                        listed = {pid: service for service, pid in pids.items()}
                        self._events.put(partial(self._plan.listed, listed))
            except errors.ModelEngineError:
                time.sleep(WATCH_PAUSE_S)

    def _read_stdin(self) -> None:
        while os.read(0, 4096):
            pass
        self._events.put(self._plan.asked_to_stop)

    def _kill_the_rest(self) -> None:
        """Only after a failure of our own is there anything left to do here."""
        for process in self._processes.values():
            if process.poll() is None:
                process.kill()


def _pid(client: Replicas, service: ServerInfo) -> int:
    try:
        return int(client.replica_info(service).get("pid", 0))
    except errors.ModelEngineError:
        return 0


def _print(line: str) -> None:
    try:
        print(line, flush=True)
    except OSError:
        # Whoever read our lines has left (`| head`); the system goes on, and what is still buffered goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _in_background(work: Callable[[], None]) -> None:
    threading.Thread(target=work, daemon=True).start()
