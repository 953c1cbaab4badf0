"""Which objects want a look: each once in the line, never twice at the same time, and none is forgotten."""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelengine_operator import workqueue
from modelengine_operator.workqueue import WorkQueue


async def turns(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def taken(queue: WorkQueue[str]) -> str | None:
    """The next key, None when there is none."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.01):
            return await queue.get()
    return None


async def test_keys_come_in_the_order_in_which_they_were_added() -> None:
    queue = WorkQueue[str]()
    for key in "abc":
        queue.add(key)
    assert len(queue) == 3
    assert [await taken(queue) for _ in range(4)] == ["a", "b", "c", None]


async def test_a_key_that_waits_already_keeps_its_place() -> None:
    queue = WorkQueue[str]()
    for key in "aba":
        queue.add(key)
    assert [await taken(queue) for _ in range(3)] == ["a", "b", None]


async def test_a_key_that_is_added_during_the_work_on_it_comes_again_afterwards_and_once() -> None:
    queue = WorkQueue[str]()
    queue.add("a")
    assert await taken(queue) == "a"
    queue.add("a")
    queue.add("a")
    assert await taken(queue) is None
    queue.done("a")
    assert await taken(queue) == "a"
    queue.done("a")
    assert await taken(queue) is None


async def test_one_who_waits_gets_what_comes() -> None:
    queue = WorkQueue[str]()
    waiting = [asyncio.create_task(queue.get()) for _ in range(2)]
    await turns()
    queue.add("a")
    await turns()
    assert [task.done() for task in waiting].count(True) == 1
    queue.add("b")
    assert sorted(await asyncio.wait_for(asyncio.gather(*waiting), 1)) == ["a", "b"]


async def test_it_is_idle_when_nothing_waits_and_nobody_works() -> None:
    queue = WorkQueue[str]()
    assert queue.is_idle
    queue.add("a")
    assert not queue.is_idle
    await queue.get()
    assert not queue.is_idle
    queue.add_after("b", 60)
    queue.done("a")
    assert queue.is_idle


async def test_a_key_that_is_added_for_later_comes_then_and_the_sooner_of_two_times_counts() -> None:
    queue = WorkQueue[str]()
    queue.add_after("a", 0.05)
    queue.add_after("a", 30)
    assert await taken(queue) is None
    await asyncio.sleep(0.06)
    assert await taken(queue) == "a"
    queue.done("a")
    queue.add_after("b", 30)
    queue.add_after("b", 0.02)
    await asyncio.sleep(0.04)
    assert await taken(queue) == "b"


async def test_a_look_now_stands_for_the_look_later() -> None:
    queue = WorkQueue[str]()
    queue.add_after("a", 0.02)
    queue.add("a")
    assert await taken(queue) == "a"
    queue.done("a")
    await asyncio.sleep(0.04)
    assert await taken(queue) is None


async def test_a_time_that_comes_during_the_work_is_not_lost() -> None:
    queue = WorkQueue[str]()
    queue.add("a")
    await queue.get()
    queue.add_after("a", 0.01)
    await asyncio.sleep(0.03)
    assert await taken(queue) is None
    queue.done("a")
    assert await taken(queue) == "a"


async def test_what_fails_comes_again_later_and_later_until_it_succeeds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    queue = WorkQueue[str]()
    delays = [queue.add_failed("a") for _ in range(12)]
    assert delays[:4] == [0.5, 1.0, 2.0, 4.0]
    assert delays[-1] == workqueue.LAST_BACK_OFF_S == 300
    assert queue.add_failed("b") == 0.5
    queue.forget_failures("a")
    queue.forget_failures("a")
    assert queue.add_failed("a") == 0.5
    assert queue.add_failed("a", at_least_s=7.0) == 7.0


async def test_a_queue_may_have_a_last_delay_of_its_own_after_which_the_key_is_there_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    queue = WorkQueue[str](0.02)
    assert queue.add_failed("a") == queue.add_failed("a") == 0.02
    assert await taken(queue) is None
    await asyncio.sleep(0.03)
    assert await taken(queue) == "a"


async def test_many_that_failed_together_do_not_come_again_together() -> None:
    queue = WorkQueue[int]()
    delays = {queue.add_failed(key) for key in range(50)}
    assert len(delays) > 40
    assert all(0.25 <= delay_s <= 0.5 for delay_s in delays)


async def test_after_very_many_failures_it_still_comes() -> None:
    queue = WorkQueue[str]()
    for _ in range(2000):
        delay_s = queue.add_failed("a")
    assert delay_s <= workqueue.LAST_BACK_OFF_S


@given(st.lists(st.tuples(st.sampled_from(["add", "get", "done"]), st.sampled_from("abc")), max_size=40))
def test_no_wish_is_lost_and_no_two_work_on_one(steps: list[tuple[str, str]]) -> None:
    async def run() -> None:
        queue, working, dirty = WorkQueue[str](), set[str](), set[str]()
        for step, key in steps:
            if step == "add":
                queue.add(key)
                dirty.add(key)
            elif step == "get" and len(queue):
                got = await queue.get()
                assert got not in working
                working.add(got)
                dirty.discard(got)
            elif step == "done" and key in working:
                queue.done(key)
                working.discard(key)
        for key in sorted(working):
            queue.done(key)
        left = set()
        while len(queue):
            left.add(await queue.get())
        assert left == dirty

    asyncio.run(run())
