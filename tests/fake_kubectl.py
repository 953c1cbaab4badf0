"""A kubectl for tests of the command line: says what the test wrote down, and notes what it was asked.

`installed` puts it on a PATH. Answers are found by the words that the call must hold; a port-forward "opens" a port
where something listens already, so that the verbs reach a real front door.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class FakeKubectl:
    """Lives in `folder`, which is to stand first on the PATH."""

    folder: Path
    port: int = 0
    _answers: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        program = self.folder / "kubectl"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -S {Path(__file__)} {self.folder} "$@"\n')
        program.chmod(0o755)
        self.answer(["version", "--client"], {"clientVersion": {"gitVersion": "v1.34.4"}})

    @property
    def env(self) -> dict[str, str]:
        return {"PATH": f"{self.folder}{os.pathsep}{os.environ['PATH']}"}

    def answer(self, words: Sequence[str], out: object = "", *, err: str = "", code: int = 0) -> None:
        """What a call with all these words prints; the latest answer that fits counts."""
        text = out if isinstance(out, str) else json.dumps(out)
        self._answers.insert(0, {"words": list(words), "out": text, "err": err, "code": code})
        self._write()

    def items(self, words: Sequence[str], *objects: Any) -> None:
        self.answer(["get", *words], {"items": list(objects)})

    def forwards_to(self, port: int) -> None:
        self.port = port
        self._write()

    def _write(self) -> None:
        state = {"answers": self._answers, "port": self.port}
        (self.folder / "state.json").write_text(json.dumps(state))

    @property
    def calls(self) -> list[list[str]]:
        log = self.folder / "calls"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    @property
    def forwarders(self) -> list[int]:
        """The pids of the port-forwards that live."""
        return [int(path.name.partition("-")[2]) for path in self.folder.glob("forward-*")]


def main(folder: Path, words: list[str]) -> int:
    with (folder / "calls").open("a") as log:
        log.write(json.dumps(words) + "\n")
    state = json.loads((folder / "state.json").read_text())
    if "port-forward" in words and state["port"]:
        return forward(folder, state["port"])
    for answer in state["answers"]:
        if all(any(word in given for given in words) for word in answer["words"]):
            print(answer["out"], end="")
            print(answer["err"], end="", file=sys.stderr)
            return int(answer["code"])
    print(f"error: the test has no answer for {words}", file=sys.stderr)
    return 1


def forward(folder: Path, port: int) -> int:
    """Until SIGTERM, or until the test removes the mark of this process."""
    mark = folder / f"forward-{os.getpid()}"
    mark.touch()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(f"Forwarding from 127.0.0.1:{port} -> 9527", flush=True)
    try:
        while mark.exists():
            time.sleep(0.02)
    finally:
        mark.unlink(missing_ok=True)
    print("error: lost connection to pod", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
