"""What the benchmark makes once and keeps: environments, models and programs, in a folder of their own.

The folder is `$MODELENGINE_BENCH_HOME`, else `~/.cache/modelengine/bench-engine`. Each thing is a folder in it that has
a mark when it is whole, and a name that holds what it was made from: a change there makes another.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import processes
from bench.processes import BenchFailed

VARIABLE = "MODELENGINE_BENCH_HOME"
MARK = ".whole"
COMMAND_S = 3600.0


def home() -> Path:
    return Path(os.environ.get(VARIABLE) or Path.home() / ".cache/modelengine/bench-engine")


def once(folder: Path, make: Callable[[Path], None]) -> Path:
    """The folder, made by `make` (which finds it empty) where it is not there, or was left half made."""
    if not (folder / MARK).exists():
        print(f"making {folder.relative_to(home())} ...", file=sys.stderr, flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        make(folder)
        (folder / MARK).touch()
    return folder


def digest(*files: Path) -> str:
    """A few characters that change with the content of the files."""
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:8]


def command(argv: Sequence[str | Path], **variables: str) -> None:
    """Runs it to its end, with these environment variables. Raises BenchFailed with its last lines if it fails."""
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(
            words,
            cwd=processes.ROOT,
            env=processes.environment() | variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=COMMAND_S,
        )
    except subprocess.TimeoutExpired as late:
        raise BenchFailed(f"{words[0]} took longer than {COMMAND_S:g} s") from late
    if done.returncode:
        raise BenchFailed(f"{' '.join(words)} failed:\n{processes.last_lines(done.stdout)}")
