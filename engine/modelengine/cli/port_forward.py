"""`kubectl port-forward` to the front door of a cluster, for as long as a verb runs.

Its end is tied to ours by a pipe: a shell holds kubectl as its child and waits for the end of its own input, which
comes when this process ends, however it ends. A forward that breaks, because the pod at its far end has left, is made
again on the same local port.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from modelengine import errors
from modelengine.cli import front_door, kubectl
from modelengine.cli.kubectl import Kubectl
from modelengine.cli.reach import Cluster

HOST = "127.0.0.1"
LISTENING = re.compile(rf"Forwarding from {re.escape(HOST)}:(\d+)")
# kubectl waits that long for a pod that runs.
POD_TIMEOUT = "--pod-running-timeout=20s"
START_TIMEOUT_S = 60.0
END_TIMEOUT_S = 5.0
PAUSE_S = 0.3
# Closing our own outputs lets the reader see kubectl's end; the `read` sees ours.
TIED = 'trap "" INT; "$@" & child=$!; exec >&- 2>&-; read -r _; kill "$child"; wait "$child"'


@contextmanager
def to_front_door(cluster: Cluster) -> Iterator[str]:
    """The local address of a port-forward. A connection that fails in the block is told with what it led to."""
    found = front_door.find(Kubectl(cluster))
    forward = PortForward(Kubectl(cluster), found)
    try:
        yield f"{HOST}:{forward.port}"
    except errors.ConnectionFailed as failure:
        raise errors.Unavailable(
            f"the front door {found} does not answer through the port-forward ({failure.message}); "
            f"see: kubectl get pods -n {found.namespace} -l {front_door.SELECTOR}"
        ) from failure
    finally:
        forward.close()


class PortForward:
    """From its making to `close` there is a way from `port` to the service."""

    def __init__(self, kubectl: Kubectl, to: front_door.Service) -> None:
        self.port = 0
        self._kubectl = kubectl
        self._to = to
        self._is_closing = threading.Event()
        # Of "there is a child" and "there shall be none any more".
        self._changing = threading.Lock()
        self._is_open = threading.Event()
        self._last_words = ""
        self._process = self._start()
        self._reader = threading.Thread(target=self._run, name="port-forward", daemon=True)
        self._reader.start()
        if not self._is_open.wait(START_TIMEOUT_S) or not self.port:
            self.close()
            raise _explain(self._last_words, to)

    def close(self) -> None:
        with self._changing:
            self._is_closing.set()
            _end(self._process)
        self._reader.join()

    def _start(self) -> subprocess.Popen[str]:
        argv = self._kubectl.argv(
            "port-forward",
            f"--namespace={self._to.namespace}",
            f"--address={HOST}",
            POD_TIMEOUT,
            f"service/{self._to.name}",
            f"{self.port or ''}:{self._to.port}",
        )
        try:
            return subprocess.Popen(
                ["/bin/sh", "-c", TIED, "sh", *argv],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                # Ctrl-C is for us alone: it ends an answer, not the way to it.
                start_new_session=True,
            )
        except OSError as failure:
            raise kubectl.not_found(failure) from failure

    def _run(self) -> None:
        """Reads what kubectl says, so that it never has to wait for us; starts it again when it ends."""
        while True:
            assert self._process.stdout is not None
            self._read(self._process.stdout)
            _end(self._process)
            if not self.port:
                self._is_open.set()
                return
            self._is_closing.wait(PAUSE_S)
            with self._changing:
                if self._is_closing.is_set():
                    return
                self._process = self._start()

    def _read(self, lines: IO[str]) -> None:
        for line in lines:
            if found := LISTENING.search(line):
                self.port = int(found[1])
                self._is_open.set()
            else:
                self._last_words = line


def _end(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _explain(complaint: str, to: front_door.Service) -> errors.ModelEngineError:
    failure = kubectl.explain(complaint)
    if type(failure) is not errors.ModelEngineError:
        return failure
    return errors.Unavailable(
        f"no way to the front door {to} ({kubectl.last_words(complaint)}); "
        f"see: kubectl get pods -n {to.namespace} -l {front_door.SELECTOR}"
    )
