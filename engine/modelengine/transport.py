"""The only place that knows httpx2: time-outs, and its exceptions translated into our tree."""

from __future__ import annotations

import httpx2

from modelengine import errors

CONNECT_TIMEOUT_S = 3.0
# Many streams may be open at once; the engines bound them, not the client.
LIMITS = httpx2.Limits(max_connections=None, max_keepalive_connections=32, keepalive_expiry=30)


def timeouts(read_s: float) -> httpx2.Timeout:
    return httpx2.Timeout(read_s, connect=CONNECT_TIMEOUT_S)


def before_answer(failure: httpx2.HTTPError | httpx2.InvalidURL, url: str) -> errors.ModelEngineError:
    """What it means when a call failed before the first byte of its answer."""
    if isinstance(failure, httpx2.ReadTimeout | httpx2.WriteTimeout):
        return errors.WaitTimeout(f"{url} took the request but did not answer in time")
    if isinstance(failure, httpx2.ConnectError | httpx2.ConnectTimeout):
        return errors.ConnectionFailed(f"nobody answers at {url} ({failure or type(failure).__name__})")
    return errors.ConnectionFailed(
        f"the connection to {url} broke before the answer ({failure or type(failure).__name__})"
    )


def inside_answer(failure: httpx2.HTTPError | httpx2.StreamError, url: str) -> errors.ModelEngineError:
    """What it means when a stream failed after its first byte."""
    if isinstance(failure, httpx2.ReadTimeout):
        return errors.StreamBroken(f"{url} fell silent in the middle of the answer")
    return errors.StreamBroken(f"the connection to {url} broke in the middle of the answer")
