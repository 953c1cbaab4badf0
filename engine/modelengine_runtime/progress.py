"""How far a pod is on its way to its first answer. `fetch` and the engine both answer `GET /loading` with this, one
after the other on the same port, and the operator shows it in the status of the ModelEngine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

LOADING_PATH = "/loading"

# Bytes that are there, bytes in all; None for what is not known.
Measure = Callable[[], tuple[int | None, int | None]]


class Stage(StrEnum):
    """What is going on, in the words that users see and may search for."""

    STARTING = "starting"
    WAITING = "waiting for another download"
    DOWNLOADING = "downloading"
    CHECKING = "checking"
    LOADING = "loading"
    WARMING_UP = "warming up"
    READY = "ready"
    STOPPING = "stopping"
    FAILED = "failed"


def report(stage: Stage, there: int | None = None, total: int | None = None) -> Mapping[str, Any]:
    """The `msg` of `/loading`."""
    return {"stage": stage, "bytes": there, "total": total}


def unknown() -> tuple[None, None]:
    """The measure of a stage that has none."""
    return None, None


class Progress:
    """The stage that a process is in; a thread that asks sees it at any moment."""

    def __init__(self) -> None:
        self._now: tuple[Stage, Measure] = (Stage.STARTING, unknown)

    def enter(self, stage: Stage, measure: Measure = unknown) -> None:
        self._now = (stage, measure)

    @property
    def report(self) -> Mapping[str, Any]:
        stage, measure = self._now
        return report(stage, *measure())
