"""What the operator asks pods, and how often; the answers are made up here."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from modelengine_operator import asking
from modelengine_operator.asking import Asking
from modelengine_operator.podstate import PodState, parse

ANSWERS: dict[str, dict[str, Any]] = {
    "/loading": {"stage": "loading", "bytes": 1, "total": 2},
    "/engine/info": {"parameters": 7, "architecture": "A"},
}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Questions:
    """Stands for all pods: answers, and remembers what was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.woken = 0
        monkeypatch.setattr(Asking, "_ask", self._answer)

    async def _answer(self, method: str, pod: PodState, path: str) -> dict[str, Any]:
        self.asked.append(path)
        return ANSWERS[path]

    def wake(self) -> None:
        self.woken += 1


@pytest.fixture
def questions(monkeypatch: pytest.MonkeyPatch) -> Questions:
    return Questions(monkeypatch)


def pod() -> PodState:
    return parse({"metadata": {"name": "p", "uid": "u"}, "status": {"podIP": "10.0.0.1"}})


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_pod_that_has_just_been_asked_how_far_it_is_is_asked_at_once_what_it_has_loaded(
    questions: Questions,
) -> None:
    async with Asking(Clock()) as pods:
        assert pods.progress(pod(), questions.wake) is None
        await settle()
        assert pods.facts(pod(), questions.wake) is None
        await settle()
        assert pods.facts(pod(), questions.wake) == {"parameters": 7, "architecture": "A"}
    assert questions.asked == ["/loading", "/engine/info"]
    assert questions.woken == 2


async def test_the_same_is_not_asked_again_at_once_and_a_forgotten_pod_is_a_new_one(questions: Questions) -> None:
    clock = Clock()
    async with Asking(clock) as pods:
        for _ in range(3):
            pods.progress(pod(), questions.wake)
            await settle()
        assert questions.asked == ["/loading"]
        clock.now += asking.EVERY_S
        pods.progress(pod(), questions.wake)
        await settle()
        assert questions.asked == ["/loading"] * 2
        # It said the same.
        assert questions.woken == 1
        pods.keep(())
        assert pods.progress(pod(), questions.wake) is None
        await settle()
    assert questions.asked == ["/loading"] * 3
