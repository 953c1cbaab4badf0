"""A thread that works in steps and is told by mail: what the loops of chats, of vectors and of scores have in common.

Cancelling is mail like any other, so nothing outside ever waits for a step.
"""

from __future__ import annotations

import abc
import queue
import threading
from collections.abc import Callable


class StepThread(abc.ABC):
    def __init__(self, name: str) -> None:
        self._mail: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._stopping = False
        self._ended = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread; what is still to do fails with Unavailable. Returns when the thread has ended."""
        self._mail.put(self._stop)
        self._thread.join()

    @abc.abstractmethod
    def turn(self, wait: bool) -> None:
        """One step, where there is one, and the mail; `wait`: for a letter, where there is nothing to run.

        What the thread does again and again; a test may do it in its place.
        """

    @abc.abstractmethod
    def _give_up_all(self) -> None:
        """Tells whoever runs or waits that the engine is stopping."""

    def _hand_over(self, letter: Callable[[], None]) -> None:
        """Sends work, of which nobody may be left waiting when the thread has ended. Thread-safe."""
        self._mail.put(letter)
        if self._ended:
            self._turn_away()

    def _run(self) -> None:
        try:
            while not self._stopping:
                self.turn(wait=True)
        finally:
            # Also when a mistake of ours ends the thread: nobody may be left waiting. Said before the mail is read for
            # the last time, so that what comes later is turned away by whoever sends it.
            self._ended = True
            self._turn_away()

    def _turn_away(self) -> None:
        self._read_mail(wait=False)
        self._give_up_all()

    def _read_mail(self, wait: bool) -> None:
        if wait:
            self._mail.get()()
        while not self._mail.empty():
            self._mail.get()()

    def _stop(self) -> None:
        self._stopping = True
