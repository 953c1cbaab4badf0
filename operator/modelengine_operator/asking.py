"""The questions that the operator asks engine pods themselves: how far are you, and what model do you have?

Over HTTP, with short time-outs; a pod that does not answer says nothing, and that is no error.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Self

import aiohttp

from modelengine import kinds
from modelengine.protocol import EngineMethod, host_in_url
from modelengine_operator.observed import Progress
from modelengine_operator.podstate import PodState
from modelengine_operator.status import MAX_NUMBER, MAX_WORD

log = logging.getLogger(__name__)

TIMEOUT_S = 2.0
MAX_ANSWER = 65_536
NUMBERS = {"parameters": "parameters", "context_length": "contextLength"}
WORDS = {"architecture": "architecture", "dtype": "dtype", "device": "device"}


class Asking:
    """Open it with `async with`. What a ready pod says of its model is asked once."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._facts: dict[str, Mapping[str, Any]] = {}

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_S), cookie_jar=aiohttp.DummyCookieJar()
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def progress(self, pod: PodState) -> Progress | None:
        """How far a pod is that is not ready yet."""
        told = await self._ask("GET", pod, "/loading")
        stage = told.get("stage")
        if not isinstance(stage, str) or not stage:
            return None
        done, total = (value if _is_count(value := told.get(key)) else None for key in ("bytes", "total"))
        return Progress(stage[:64], done, total)

    async def facts(self, pod: PodState) -> Mapping[str, Any] | None:
        """What a ready pod says of its model, under the status' own names."""
        if pod.uid not in self._facts:
            told = await self._ask("POST", pod, f"/engine/{EngineMethod.INFO}")
            facts: dict[str, Any] = {name: told[key] for key, name in NUMBERS.items() if _is_count(told.get(key))}
            facts |= {name: told[key][:MAX_WORD] for key, name in WORDS.items() if isinstance(told.get(key), str)}
            if not facts:
                return None
            self._facts[pod.uid] = facts
        return self._facts[pod.uid]

    def forget(self, uids: set[str]) -> None:
        for uid in uids & self._facts.keys():
            del self._facts[uid]

    async def _ask(self, method: str, pod: PodState, path: str) -> Mapping[str, Any]:
        assert self._session is not None
        url = f"http://{host_in_url(pod.ip)}:{kinds.ENGINE_PORT}{path}"
        try:
            async with self._session.request(
                method, url, json={} if method == "POST" else None, allow_redirects=False
            ) as response:
                if response.status != 200 or int(response.headers.get("content-length", MAX_ANSWER)) > MAX_ANSWER:
                    return {}
                told = await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as failure:
            log.debug("%s does not answer %s: %r", pod.name, path, failure)
            return {}
        msg = told.get("msg") if isinstance(told, dict) else None
        return msg if isinstance(msg, dict) else {}


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_NUMBER
