"""How much may be tried twice: a share of what is open, so that retries never double a load that is too much. Pure."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

# Envoy's numbers.
SHARE = 0.2
AT_LEAST = 3


class RetryBudget:
    """Counts requests that are open, and those of them that a second replica is asked just now."""

    def __init__(self) -> None:
        self.open = 0
        self.retried = 0

    @property
    def is_spent(self) -> bool:
        return self.retried >= max(AT_LEAST, self.open * SHARE)

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1

    @contextlib.contextmanager
    def retry(self) -> Iterator[None]:
        self.retried += 1
        try:
            yield
        finally:
            self.retried -= 1
