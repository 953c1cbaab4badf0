"""The questions that the operator asks engine pods themselves: how far are you, and what model do you have?

Over HTTP, with short time-outs and beside the reconciler's work, which goes on with the last answer: a thousand pods
that do not answer hold nobody up. A pod that does not answer says nothing, and that is no error.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Self

import aiohttp

from modelengine import kinds
from modelengine.protocol import EngineMethod, host_in_url
from modelengine_operator.observed import Progress
from modelengine_operator.podstate import PodState
from modelengine_operator.status import MAX_NUMBER, MAX_WORD

log = logging.getLogger(__name__)

TIMEOUT_S = 2.0
# One pod is not asked more often.
EVERY_S = 5.0
AT_ONCE = 50
MAX_ANSWER = 65_536
NUMBERS = {"parameters": "parameters", "context_length": "contextLength"}
# A pod's uid, and what it is asked.
Question = tuple[str, str]
WORDS = {"architecture": "architecture", "dtype": "dtype", "device": "device"}


class Asking:
    """Open it with `async with`. `wake` is called when a pod has answered something new."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        self._at_once = asyncio.Semaphore(AT_ONCE)
        # That a pod was asked how far it is must not delay the question what it has loaded.
        self._tasks: dict[Question, asyncio.Task[None]] = {}
        self._asked_at: dict[Question, float] = {}
        # By the pods' uids.
        self._progress: dict[str, Progress | None] = {}
        self._facts: dict[str, Mapping[str, Any]] = {}

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_S), cookie_jar=aiohttp.DummyCookieJar()
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def progress(self, pod: PodState, wake: Callable[[], None]) -> Progress | None:
        """How far a pod is that is not ready yet, as it said last."""
        self._start(pod, "progress", self._ask_progress, wake)
        return self._progress.get(pod.uid)

    def facts(self, pod: PodState, wake: Callable[[], None]) -> Mapping[str, Any] | None:
        """What a ready pod says of its model, under the status' own names. It is asked until it has said it."""
        if pod.uid not in self._facts:
            self._start(pod, "facts", self._ask_facts, wake)
        return self._facts.get(pod.uid)

    def keep(self, uids: Collection[str]) -> None:
        """Forgets all pods but these."""
        for known in (self._progress, self._facts):
            for uid in known.keys() - uids:
                del known[uid]
        self._asked_at = {question: at for question, at in self._asked_at.items() if question[0] in uids}

    def _start(
        self, pod: PodState, what: str, ask: Callable[[PodState], Awaitable[bool]], wake: Callable[[], None]
    ) -> None:
        """Unless the pod is being asked that, or was a moment ago: each answer is a write of the status."""
        now, question = self._clock(), (pod.uid, what)
        if question in self._tasks or now - self._asked_at.get(question, float("-inf")) < EVERY_S:
            return
        self._asked_at[question] = now

        async def run() -> None:
            try:
                async with self._at_once:
                    is_news = await ask(pod)
            finally:
                del self._tasks[question]
            if is_news:
                wake()

        self._tasks[question] = asyncio.create_task(run(), name=f"asking {pod.name}")

    async def _ask_progress(self, pod: PodState) -> bool:
        told = await self._ask("GET", pod, "/loading")
        stage = told.get("stage")
        progress = None
        if isinstance(stage, str) and stage:
            done, total = (value if _is_count(value := told.get(key)) else None for key in ("bytes", "total"))
            progress = Progress(stage[:64], done, total)
        is_news = progress != self._progress.get(pod.uid)
        self._progress[pod.uid] = progress
        return is_news

    async def _ask_facts(self, pod: PodState) -> bool:
        told = await self._ask("POST", pod, f"/engine/{EngineMethod.INFO}")
        facts: dict[str, Any] = {name: told[key] for key, name in NUMBERS.items() if _is_count(told.get(key))}
        facts |= {name: told[key][:MAX_WORD] for key, name in WORDS.items() if isinstance(told.get(key), str)}
        if facts:
            self._facts[pod.uid] = facts
        return bool(facts)

    async def _ask(self, method: str, pod: PodState, path: str) -> Mapping[str, Any]:
        assert self._session is not None
        url = f"http://{host_in_url(pod.ip)}:{kinds.ENGINE_PORT}{path}"
        try:
            async with self._session.request(
                method, url, json={} if method == "POST" else None, allow_redirects=False
            ) as response:
                told = json.loads(await _bounded(response)) if response.status == 200 else {}
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, RecursionError) as failure:
            log.debug("%s does not answer %s: %r", pod.name, path, failure)
            return {}
        msg = told.get("msg") if isinstance(told, dict) else None
        return msg if isinstance(msg, dict) else {}


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    """The answer's body. Raises ValueError when it is over MAX_ANSWER: some never end."""
    data = b""
    async for part in response.content.iter_any():
        data += part
        if len(data) > MAX_ANSWER:
            raise ValueError("the answer is too long")
    return data


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_NUMBER
