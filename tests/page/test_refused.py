"""What a person is told where no answer comes: failures, models that nobody serves, a key that is wanted."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import pytest
from playwright.sync_api import Page, Route, expect

from callers import engine_process
from fakes import FakeEngine
from modelengine import NameServerClient, errors
from modelengine.protocol import ServerInfo
from played_cluster import open_front_door
from walks import LONG, SLOW_S, answers, ask, ended

Serve = Callable[..., str]
Visit = Callable[..., Page]


def test_an_engine_that_dies_mid_answer_is_an_error_and_another_try_works(
    serve: Serve, visit: Visit, join: Callable[[str, FakeEngine], ServerInfo]
) -> None:
    front_door = serve()
    with engine_process("demo", words=LONG, pause_s=SLOW_S, break_after=5, break_by="kill") as (_, info):
        with NameServerClient(front_door) as names:
            names.register(info)
        page = visit(front_door)
        ask(page, "Talk.")
        answer = ended(page, "failed")
        expect(answer).to_contain_text("word4")
        expect(answer.locator(".failure")).to_contain_text("stream_broken")
    join(front_door, FakeEngine(words=["Better."]))
    page.get_by_role("button", name="Try again").click()
    expect(ended(page)).to_contain_text("Better.")


def test_an_engine_that_fails_mid_answer_says_so(serve: Serve, visit: Visit) -> None:
    page = visit(serve(FakeEngine(break_after=2)))
    ask(page, "Talk.")
    expect(ended(page, "failed").locator(".failure")).to_contain_text("the fake broke")


def test_a_refusal_says_why_and_when_to_come_again(serve: Serve, visit: Visit) -> None:
    page = visit(serve(FakeEngine(refusal=errors.Busy("every slot is taken", retry_after_s=7))))
    ask(page, "Hello?")
    failure = ended(page, "failed").locator(".failure")
    expect(failure).to_contain_text("every slot is taken")
    expect(failure).to_contain_text("It may work again in 7.0 s.")


def test_a_front_door_that_is_gone_is_said(serve: Serve, visit: Visit, stack: ExitStack) -> None:
    page = visit(serve(FakeEngine()))
    expect(page.locator("#model-state")).to_have_text("ready, 1 replica")
    stack.close()
    ask(page, "Anybody?")
    expect(ended(page, "failed")).to_contain_text("The front door does not answer.")
    expect(page.locator("#model-state")).to_contain_text("The front door does not answer.")


def test_a_model_without_a_replica_can_be_chosen_and_says_why_it_does_not_answer(
    visit: Visit, stack: ExitStack
) -> None:
    front_door = open_front_door(stack, [], ["sleeper"])
    page = visit(front_door)
    expect(page.locator("#model-state")).to_have_text("no replica of 'sleeper' is ready now")
    page.get_by_role("button", name="Model: sleeper").click()
    expect(page.get_by_role("option")).to_contain_text("no replica of 'sleeper' is ready now")
    page.keyboard.press("Escape")
    ask(page, "Awake?")
    expect(ended(page, "failed")).to_contain_text("no replica of 'sleeper' is ready now")


def test_no_model_at_all_says_how_to_get_one(serve: Serve, visit: Visit) -> None:
    page = visit(serve())
    expect(page.get_by_role("heading", name="No model answers here yet.")).to_be_visible()
    expect(page.get_by_text("modelengine up")).to_be_visible()


def test_a_server_that_wants_a_key_has_it_asked_for_and_gets_it_from_then_on(serve: Serve, visit: Visit) -> None:
    """The front door's part is played by the browser's own interception: it refuses what has no key."""
    front_door = serve(FakeEngine())
    sent: list[str | None] = []

    def guard(route: Route) -> None:
        sent.append(route.request.headers.get("authorization"))
        if sent[-1] == "Bearer right":
            return route.continue_()
        refusal = {"state": "error", "code": "unauthorized", "msg": "this server wants an API key"}
        return route.fulfill(status=401, json=refusal)

    page = visit(front_door)
    page.route("**/engine/**", guard)
    ask(page, "Hello")
    expect(page.get_by_role("dialog")).to_contain_text("this server wants an API key")
    page.get_by_label("Key", exact=True).fill("right")
    page.keyboard.press("Enter")
    ended(page)
    page.reload()
    ask(page, "Hello again")
    expect(answers(page)).to_have_count(2)
    ended(page)
    assert sent == [None, "Bearer right", "Bearer right"]
    assert page.evaluate("localStorage.getItem('modelengine/key')") is None, "only kept for longer when asked to"


def lock(page: Page) -> None:
    """From now on the server wants the key `right`; the browser's own interception plays its part."""

    def guard(route: Route) -> None:
        if route.request.headers.get("authorization") == "Bearer right":
            return route.continue_()
        return route.fulfill(status=401, json={"state": "error", "code": "unauthorized", "msg": "give a key"})

    page.route("**/engine/**", guard)


@pytest.mark.parametrize(
    "without_room",
    [
        "Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); }",
        "for (const name of ['localStorage', 'sessionStorage'])"
        " Object.defineProperty(window, name, { get() { throw new DOMException('no', 'SecurityError'); } })",
    ],
    ids=["full", "blocked"],
)
def test_a_key_works_until_the_tab_is_closed_where_a_browser_keeps_nothing(
    without_room: str, serve: Serve, visit: Visit
) -> None:
    page = visit(serve(FakeEngine()))
    lock(page)
    page.add_init_script(without_room)
    page.reload()
    ask(page, "Hello")
    expect(page.get_by_role("dialog")).to_contain_text("give a key")
    page.get_by_label("Key", exact=True).fill("right")
    page.keyboard.press("Enter")
    ended(page)
    page.get_by_role("button", name="API key").click()
    expect(page.get_by_role("dialog")).to_contain_text("Sent to this server with every request.")
    expect(page.get_by_label("Key", exact=True)).to_have_value("right")
