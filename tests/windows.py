"""The `modelengine` command as a user has it: in a terminal window that can be read, typed into and interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

TESTS = Path(__file__).parent
COMMAND = (sys.executable, "-m", "modelengine")
# A terminal of its own for a command; pty.spawn passes on what we write and read.
IN_A_TERMINAL = (
    sys.executable,
    "-c",
    "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))",
)
# Starting and stopping on a busy machine; nothing here waits so long when it works.
PATIENCE_S = 90.0


class Window:
    """A process whose `out` and `err` grow while it runs."""

    def __init__(self, argv: Sequence[str], **env: str) -> None:
        self.process = subprocess.Popen(
            argv,
            env={**os.environ, "PYTHONPATH": str(TESTS), "TERM": "dumb", **env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # What is typed after its end is lost, not kept for the close.
            bufsize=0,
            # As a shell does it: Ctrl-C in the test's own terminal is not for this process.
            start_new_session=True,
        )
        self.out = self.err = ""
        self._changed = threading.Condition()
        self._readers = [threading.Thread(target=self._read, args=(name,)) for name in ("out", "err")]
        for reader in self._readers:
            reader.start()

    def _read(self, name: str) -> None:
        pipe = self.process.stdout if name == "out" else self.process.stderr
        assert pipe is not None
        raw = b""
        with pipe:
            while data := os.read(pipe.fileno(), 65536):
                raw += data
                with self._changed:
                    setattr(self, name, raw.decode(errors="replace"))
                    self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def until(self, text: str, times: int = 1, timeout_s: float = PATIENCE_S) -> None:
        """Waits until the text has come so many times, on stdout or stderr."""
        with self._changed:
            found = self._changed.wait_for(lambda: (self.out + self.err).count(text) >= times, timeout_s)
        assert found, f"{text!r} did not come; out:\n{self.out}\nerr:\n{self.err}"

    def type(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode())

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def end(self, timeout_s: float = PATIENCE_S) -> int:
        """Waits for its end; gives the exit code, after which `out` and `err` are complete."""
        code = self.process.wait(timeout_s)
        for reader in self._readers:
            reader.join(timeout_s)
        return code

    def close(self) -> None:
        assert self.process.stdin is not None
        # Ends the children of `up` as well, should it be killed here.
        self.process.stdin.close()
        if self.process.poll() is None:
            self.process.kill()
        self.end()


@contextmanager
def opened(argv: Sequence[str], **env: str) -> Iterator[Window]:
    window = Window(argv, **env)
    try:
        yield window
    finally:
        window.close()


def modelengine(
    *arguments: str, host: str | None = None, stdin: str = "", **env: str
) -> subprocess.CompletedProcess[str]:
    """Runs the command to its end."""
    at = {} if host is None else {"MODELENGINE_HOST": host}
    return subprocess.run(
        [*COMMAND, *arguments],
        env={**os.environ, **at, **env},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
