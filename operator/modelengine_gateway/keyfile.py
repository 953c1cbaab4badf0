"""The keys in a file, or in a folder with a file for each: read at the start, and again whenever it changes.

A mounted Secret is both: an entry with all keys in it is a file, a Secret with an entry for each key is a folder. The
kubelet replaces it as a whole, by a link, so a file is never read half written.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

from modelengine import errors
from modelengine_gateway import keys
from modelengine_gateway.keys import Key

log = logging.getLogger(__name__)

LOOK_S = 2.0
MAX_BYTES = 4 * 1024 * 1024

Signature = tuple[tuple[str, int, int, int], ...]


class KeyFile:
    """The keys of now; `keep` keeps them so. What can't be read any more, or is wrong, leaves the last that could."""

    def __init__(self, path: Path, always: Sequence[Key] = ()) -> None:
        """`always` are keys that count besides. Raises InvalidRequest when the path can't be read as keys."""
        self._path = path
        self._always = tuple(always)
        self._signature = signature(path)
        self.keys = read(path, self._always)

    def owner(self, given: str) -> Key | None:
        return keys.owner(self.keys, given)

    def look(self) -> None:
        """Reads it again if it has changed."""
        now = signature(self._path)
        if now == self._signature:
            return
        self._signature = now
        try:
            self.keys = read(self._path, self._always)
        except errors.InvalidRequest as refused:
            log.error("the API keys are not read anew, those from before stand: %s", refused.message)
        except Exception as failure:
            # Its message might show a key; and whoever is taken off the list next must not stay on it for this.
            log.error("the API keys are not read anew, those from before stand: %s", type(failure).__name__)
        else:
            log.info("the API keys were read anew: %d", len(self.keys))

    async def keep(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            await asyncio.to_thread(self.look)


def read(path: Path, always: Sequence[Key] = ()) -> tuple[Key, ...]:
    """Raises InvalidRequest that names the path, and the key that is wrong in it."""
    try:
        if path.is_dir():
            found = [keys.parse_one(entry.name, _text(entry)) for entry in _entries(path)]
        else:
            found = keys.parse(_text(path))
        return keys.without_doubles([*always, *found])
    except OSError as failure:
        raise errors.InvalidRequest(f"{path}: {failure.strerror}") from failure
    except errors.InvalidRequest as refused:
        raise errors.InvalidRequest(f"{path}: {refused.message}") from refused


def signature(path: Path) -> Signature:
    """Differs when what is there does; empty when nothing is."""
    try:
        files = [path, *_entries(path)] if path.is_dir() else [path]
        return tuple(
            (str(file), stat.st_ino, stat.st_mtime_ns, stat.st_size) for file in files for stat in [file.stat()]
        )
    except OSError:
        return ()


def _entries(folder: Path) -> list[Path]:
    # A mounted Secret has its own housekeeping beside the entries, which begins with dots.
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith(".") and entry.is_file())


def _text(file: Path) -> str:
    if file.stat().st_size > MAX_BYTES:
        raise errors.InvalidRequest(f"{file.name}: is over {MAX_BYTES} bytes")
    return file.read_text(errors="replace")
