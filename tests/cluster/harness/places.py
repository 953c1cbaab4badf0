"""Where things lie: the cache that outlives a run, and a running cluster's folder. Used by every module here."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
SOURCES = Path(__file__).resolve().parents[1] / "binaries"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "modelengine" / "test-cluster"
CLUSTERS = CACHE / "clusters"
LOGS = CACHE / "logs"


class Missing(Exception):
    """Something that this machine lacks; the message says what would do."""


def fingerprint(paths: Iterable[Path], *more: str) -> str:
    """Names a thing by what it is made from, so that a change makes a new one."""
    digest = hashlib.sha256("\0".join(more).encode())
    for path in sorted(paths):
        digest.update(f"\0{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def keep_logs(cluster: Path) -> Path:
    """Copies the logs of a cluster to where its end does not take them; of the last one that failed only."""
    shutil.rmtree(LOGS, ignore_errors=True)
    return Path(shutil.copytree(cluster / "logs", LOGS))
