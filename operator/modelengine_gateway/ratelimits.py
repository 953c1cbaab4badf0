"""How much one key may ask for: requests and tokens a minute, answers at a time. Pure; the time is passed in.

`access.py` takes from it before a request goes to an engine, and charges the tokens when its answer has ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from modelengine import errors

MINUTE_S = 60.0


@dataclass(frozen=True, slots=True)
class Limits:
    """None: no limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    streams: int | None = None


class Bucket:
    """Holds as much as a minute gives, and fills up evenly. What is charged afterwards may leave it below nothing."""

    def __init__(self, per_minute: int, now: float) -> None:
        self.per_minute = per_minute
        self._level = float(per_minute)
        self._at = now

    def level(self, now: float) -> float:
        filled = self._level + max(0.0, now - self._at) * self.per_minute / MINUTE_S
        return min(float(self.per_minute), filled)

    def take(self, amount: float, now: float) -> None:
        self._level, self._at = self.level(now) - amount, now

    def wait_s(self, amount: float, now: float) -> float:
        """How long until it holds so much; 0 when it does."""
        return max(0.0, amount - self.level(now)) * MINUTE_S / self.per_minute

    def full_in_s(self, now: float) -> float:
        return self.wait_s(self.per_minute, now)


class Meter:
    """What one key has used. `admit` asks and takes, or refuses; `done` gives the place back and charges the tokens."""

    def __init__(self, limits: Limits, now: float) -> None:
        self.limits = limits
        self._requests = Bucket(limits.requests_per_minute, now) if limits.requests_per_minute else None
        self._tokens = Bucket(limits.tokens_per_minute, now) if limits.tokens_per_minute else None
        self._open = 0

    @property
    def open(self) -> int:
        """How many answers are being given."""
        return self._open

    def admit(self, now: float) -> None:
        """Takes a request and a place. Raises RateLimited naming the limit, and takes nothing then.

        How many tokens an answer will have is not known before it ends: it is let in while there is any left.
        """
        if self.limits.streams is not None and self._open >= self.limits.streams:
            raise errors.RateLimited(
                f"this key may have {self.limits.streams} answer(s) at a time, and has {self._open}", retry_after_s=1
            )
        for bucket, unit in ((self._requests, "requests"), (self._tokens, "tokens")):
            if bucket is not None and (wait_s := bucket.wait_s(1, now)):
                raise errors.RateLimited(
                    f"this key has used up its {bucket.per_minute} {unit} per minute", retry_after_s=wait_s
                )
        if self._requests is not None:
            self._requests.take(1, now)
        self._open += 1

    def done(self, tokens: int, now: float) -> None:
        """An answer has ended, however it did, and came to so many tokens with its prompt."""
        self._open -= 1
        if self._tokens is not None:
            self._tokens.take(tokens, now)

    def headers(self, now: float) -> Mapping[str, str]:
        """What is left, in the words that OpenAI's clients read."""
        return dict(self._said(now))

    def _said(self, now: float) -> Iterator[tuple[str, str]]:
        for bucket, unit in ((self._requests, "requests"), (self._tokens, "tokens")):
            if bucket is not None:
                yield f"x-ratelimit-limit-{unit}", str(bucket.per_minute)
                yield f"x-ratelimit-remaining-{unit}", str(max(0, int(bucket.level(now))))
                yield f"x-ratelimit-reset-{unit}", f"{bucket.full_in_s(now):.3f}s"
