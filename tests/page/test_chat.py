"""The chat page as a person uses it, in a real Chromium, over a real front door and engines that do as told."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from callers import engine_process, until
from fakes import FakeEngine
from modelengine import NameServerClient, errors
from modelengine.protocol import ServerInfo
from played_cluster import open_front_door
from walks import answers, ask, choose, ended

Serve = Callable[..., str]
Visit = Callable[..., Page]

SLOW_S = 0.05
LONG = [f"word{i} " for i in range(2000)]


def contents(fake: FakeEngine, number: int = -1) -> list[tuple[str, str | None]]:
    """What the engine was sent, as (role, content)."""
    return [(message.role, message.content) for message in fake.requests[number].messages]


def scroller(page: Page, what: str) -> float:
    return float(page.locator("#scroll").evaluate(f"node => node.{what}"))


def test_a_question_is_answered_part_by_part_and_says_how_fast(serve: Serve, visit: Visit) -> None:
    page = visit(serve(FakeEngine(words=LONG[:40], pause_s=0.1)))
    expect(page.locator("#model-state")).to_have_text("ready, 1 replica")
    ask(page, "Count.")
    answer = answers(page).last
    expect(answer).to_contain_text("word1 word2")
    assert answer.get_attribute("data-state") == "open"
    expect(page.get_by_role("button", name="Stop the answer")).to_be_visible()
    expect(ended(page)).to_contain_text("word38 word39")
    for line in ("tokens/s", "first after", "40 tokens"):
        expect(answer.locator(".measure")).to_contain_text(line)
    expect(page.locator("#said")).to_contain_text("demo said: word0 word1")


def test_who_is_faster_than_the_list_of_models_is_answered_all_the_same(serve: Serve, visit: Visit) -> None:
    page = visit(serve(FakeEngine()))
    page.route("**/models", lambda route: (page.wait_for_timeout(1000), route.continue_()))
    page.reload()
    ask(page, "Quick!")
    expect(ended(page)).to_contain_text("Hello world!")


def test_an_example_is_asked_with_a_click(serve: Serve, visit: Visit) -> None:
    fake = FakeEngine()
    page = visit(serve(fake))
    page.get_by_role("button", name="What is ModelEngine?").click()
    ended(page)
    assert contents(fake) == [("user", "What is ModelEngine?")]


def test_stopping_keeps_what_came_and_aborts_the_request_at_the_engine(serve: Serve, visit: Visit) -> None:
    fake = FakeEngine(words=LONG, pause_s=SLOW_S)
    page = visit(serve(fake))
    ask(page, "Talk.")
    expect(answers(page).last).to_contain_text("word3")
    page.get_by_role("button", name="Stop the answer").click()
    expect(ended(page, "stopped")).to_contain_text("You stopped this answer.")
    assert until(lambda: fake.aborted == 1 and fake.open_streams == 0, 5)
    ask(page, "Again.")
    expect(answers(page)).to_have_count(2)
    page.keyboard.press("Escape")
    ended(page, "stopped")
    assert until(lambda: fake.aborted == 2, 5)


def test_another_try_asks_the_model_that_is_chosen_now_and_replaces_the_answer(serve: Serve, visit: Visit) -> None:
    first, second = FakeEngine("first", words=["from first"]), FakeEngine("second", words=["from second"])
    page = visit(serve(first, second))
    choose(page, "first")
    ask(page, "Who are you?")
    expect(ended(page)).to_contain_text("from first")
    choose(page, "second")
    page.get_by_role("button", name="Answer again").click()
    expect(answers(page).last).to_contain_text("from second")
    expect(answers(page)).to_have_count(1)
    assert contents(second) == [("user", "Who are you?")]


def test_only_the_last_answer_can_be_tried_again_and_no_other_is_lost_by_it(serve: Serve, visit: Visit) -> None:
    fake = FakeEngine()
    page = visit(serve(fake))
    for number, text in enumerate(["one", "two", "three"]):
        ask(page, text)
        ended(page, number=number)
    expect(page.get_by_role("button", name="Answer again")).to_have_count(1)
    expect(page.get_by_role("button", name="Copy this answer")).to_have_count(3)
    answers(page).last.get_by_role("button", name="Answer again").click()
    assert until(lambda: len(fake.requests) == 4, 5)
    ended(page)
    expect(answers(page)).to_have_count(3)
    assert contents(fake) == contents(fake, 2)


def test_an_edited_question_is_asked_again_without_what_followed_it(serve: Serve, visit: Visit) -> None:
    fake = FakeEngine()
    page = visit(serve(fake))
    for number, text in enumerate(["one", "two", "three"]):
        ask(page, text)
        ended(page, number=number)
    page.get_by_role("button", name="Edit this message").nth(1).click()
    page.get_by_label("Edit your message").fill("zwei")
    page.keyboard.press("Enter")
    expect(answers(page)).to_have_count(2)
    ended(page)
    assert contents(fake) == [("user", "one"), ("assistant", "Hello world!"), ("user", "zwei")]
    expect(page.get_by_text("three")).to_have_count(0)


def test_leaving_an_edit_changes_nothing(serve: Serve, visit: Visit) -> None:
    page = visit(serve(FakeEngine()))
    ask(page, "one")
    ended(page)
    page.get_by_role("button", name="Edit this message").click()
    page.get_by_label("Edit your message").fill("other")
    page.keyboard.press("Escape")
    expect(page.locator(".asked")).to_have_text("one")


def test_conversations_are_there_after_a_reload(serve: Serve, visit: Visit) -> None:
    page = visit(serve(FakeEngine()))
    ask(page, "remember me")
    ended(page)
    page.get_by_role("link", name="New chat").click()
    ask(page, "and me")
    ended(page)
    page.reload()
    expect(page.locator(".asked")).to_have_text("and me")
    expect(page.locator("#conversations a")).to_have_text(["and me", "remember me"])
    page.get_by_role("link", name="remember me").click()
    expect(ended(page)).to_contain_text("Hello world!")


def test_an_answer_goes_on_while_another_conversation_is_read(serve: Serve, visit: Visit) -> None:
    page = visit(serve(FakeEngine(words=LONG[:40], pause_s=SLOW_S)))
    ask(page, "slow one")
    expect(answers(page).last).to_contain_text("word1")
    page.get_by_role("link", name="New chat").click()
    expect(page.get_by_label("answering")).to_be_visible()
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    expect(page.get_by_label("answering")).to_have_count(0)
    page.get_by_role("link", name="slow one").click()
    expect(ended(page)).to_contain_text("word39")


def test_a_page_that_goes_away_keeps_what_had_come(serve: Serve, visit: Visit) -> None:
    page = visit(serve(FakeEngine(words=LONG, pause_s=SLOW_S)))
    ask(page, "long one")
    expect(answers(page).last).to_contain_text("word5")
    page.reload()
    answer = ended(page, "failed")
    expect(answer).to_contain_text("word5")
    expect(answer).to_contain_text("The page was closed before the answer ended.")


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


def test_what_a_model_says_stays_text_whatever_it_is(serve: Serve, visit: Visit) -> None:
    attack = (
        "<script>window.hit=1</script><img src=x onerror='window.hit=1'>\n\n"
        "[click](javascript:window.hit=1) ![x](https://evil.example/a.png)\n\n"
        "```html\n<svg onload=window.hit=1>\n```\n\n<iframe src=//evil.example></iframe>"
    )
    call = {
        "tool_calls": [{"function": {"name": "<b>f</b>", "arguments": '{"a": "<img src=x onerror=window.hit=1>"}'}}]
    }
    page = visit(serve(FakeEngine(words=[*attack, {"reasoning_content": attack}, call])))
    ask(page, attack)
    answer = ended(page)
    expect(answer).to_contain_text("<script>window.hit=1</script>")
    expect(answer).to_contain_text("[click](javascript:window.hit=1)")
    expect(answer).to_contain_text("<b>f</b>")
    assert page.locator("#transcript :is(script, img, iframe, svg[onload])").count() == 0
    assert [link.get_attribute("href") for link in answer.locator("a").all()] == ["https://evil.example/a.png"] * 2
    assert page.evaluate("window.hit") is None


def test_markdown_is_shown_as_what_it_means(serve: Serve, visit: Visit) -> None:
    text = "# Title\n\nSome **bold** and [a link](https://a.example/).\n\n1. one\n2. two\n\n"
    text += "```py\nx = 1\n```\n\n|a|b|\n|-|-|\n|1|2|\n"
    page = visit(serve(FakeEngine(words=[*text])))
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    ask(page, "Show me.")
    answer = ended(page)
    expect(answer.get_by_role("heading", name="Title")).to_be_visible()
    expect(answer.locator("strong")).to_have_text("bold")
    expect(answer.locator("ol > li")).to_have_text(["one", "two"])
    expect(answer.get_by_role("cell")).to_have_text(["1", "2"])
    link = answer.get_by_role("link", name="a link")
    assert (link.get_attribute("rel"), link.get_attribute("target")) == ("noopener noreferrer", "_blank")
    answer.get_by_role("button", name="Copy this code").click()
    expect(page.locator("#said")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == "x = 1"


def test_code_that_is_being_written_stays_the_same_box(serve: Serve, visit: Visit) -> None:
    lines = [f"line {i}\n" for i in range(40)]
    page = visit(serve(FakeEngine(words=["```py\n", *lines, "```"], pause_s=0.1)))
    ask(page, "Code.")
    code = answers(page).last.locator("pre code")
    expect(code).to_contain_text("line 3")
    box = code.element_handle()
    expect(code).to_contain_text("line 15")
    assert box.evaluate("node => node.isConnected")
    ended(page)
    assert code.evaluate("node => node.textContent") == "".join(lines).rstrip()


def test_thoughts_are_folded_away_and_calls_of_tools_can_be_read(serve: Serve, visit: Visit) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Oslo"}'}}
    thoughts = [{"reasoning_content": "Let me think. "}] * 20
    page = visit(serve(FakeEngine(words=[*thoughts, *LONG[:20], {"tool_calls": (call,)}], pause_s=0.1)))
    ask(page, "Weather?")
    answer = answers(page).last
    expect(answer.get_by_text("Thinking …")).to_be_visible()
    expect(answer.get_by_text("Let me think.")).to_be_hidden()
    answer.get_by_text("Thinking …").click()
    expect(answer.get_by_text("Let me think.")).to_be_visible()
    ended(page)
    expect(answer.get_by_text("Let me think.")).to_be_visible()
    expect(answer.locator(".call")).to_contain_text("Calls get_weather")
    expect(answer.locator(".call pre")).to_have_text('{\n  "city": "Oslo"\n}')


def test_system_prompt_and_options_go_with_each_request_and_stay_with_their_conversation(
    serve: Serve, visit: Visit
) -> None:
    fake = FakeEngine()
    page = visit(serve(fake))
    page.get_by_role("button", name="Options").click()
    page.get_by_label("System prompt").fill("Be brief.")
    page.get_by_label("Temperature").fill("0.5")
    page.get_by_label("Longest answer").fill("9")
    page.get_by_label("Seed").fill("0")
    page.get_by_role("button", name="Done").click()
    ask(page, "Hello")
    ended(page)
    options = fake.requests[0].options
    assert contents(fake) == [("system", "Be brief."), ("user", "Hello")]
    assert (options.temperature, options.max_new_tokens, options.seed, options.top_p) == (0.5, 9, 0, None)
    expect(page.get_by_role("button", name="Options changed")).to_be_visible()
    page.reload()
    page.get_by_role("button", name="Options").click()
    expect(page.get_by_label("System prompt")).to_have_value("Be brief.")
    page.keyboard.press("Escape")
    page.get_by_role("link", name="New chat").click()
    ask(page, "Hello")
    ended(page)
    assert contents(fake) == [("user", "Hello")]


def test_a_number_that_cannot_be_is_refused_before_it_is_sent(serve: Serve, visit: Visit) -> None:
    page = visit(serve(FakeEngine()))
    page.get_by_role("button", name="Options").click()
    page.get_by_label("Temperature").fill("9")
    page.get_by_role("button", name="Done").click()
    expect(page.get_by_label("Temperature")).to_be_focused()
    expect(page.get_by_role("dialog", name="Options")).to_be_visible()


def test_conversations_are_renamed_saved_and_deleted_and_a_delete_can_be_undone(
    serve: Serve, visit: Visit, tmp_path: Path
) -> None:
    page = visit(serve(FakeEngine()))
    ask(page, "about cats")
    ended(page)
    item = page.locator("#conversations li")
    item.hover()
    page.get_by_role("button", name="Rename “about cats”").click()
    page.get_by_label("Name of the conversation").fill("Dogs")
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="Dogs")).to_be_visible()
    item.hover()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save “Dogs” as a file").click()
    download.value.save_as(tmp_path / "saved.json")
    saved = json.loads((tmp_path / "saved.json").read_text())
    assert download.value.suggested_filename == "Dogs.json"
    assert [turn["text"] for turn in saved["turns"]] == ["about cats", "Hello world!"]
    item.hover()
    page.get_by_role("button", name="Delete “Dogs”").click()
    expect(page.get_by_role("link", name="Dogs")).to_have_count(0)
    expect(page.locator("#welcome")).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    page.get_by_role("link", name="Dogs").click()
    expect(ended(page)).to_contain_text("Hello world!")


def test_a_browser_without_room_says_what_is_not_kept_and_loses_nothing(serve: Serve, visit: Visit) -> None:
    page = visit(serve(FakeEngine()))
    ask(page, "kept")
    ended(page)
    page.evaluate(
        """for (let size = 4e6; size >= 1; size = Math.floor(size / 2))
             try { while (true) localStorage.setItem("filler" + localStorage.length, "x".repeat(size)); } catch {}"""
    )
    ask(page, "one too many")
    ended(page)
    expect(page.locator("#toast")).to_contain_text("this conversation is not kept")
    expect(answers(page)).to_have_count(2)
    page.reload()
    expect(page.locator(".asked")).to_have_text(["kept"])


def test_a_reader_who_scrolls_up_stays_there_and_can_jump_to_the_latest(serve: Serve, visit: Visit) -> None:
    page = visit(serve(FakeEngine(words=[f"line {i}\n\n" for i in range(150)], pause_s=0.02)))
    ask(page, "Much.")
    expect(answers(page).last).to_contain_text("line 40")
    page.locator("#scroll").hover()
    page.mouse.wheel(0, -400)
    expect(page.get_by_role("button", name="Latest")).to_be_visible()
    at = scroller(page, "scrollTop")
    ended(page)
    assert scroller(page, "scrollTop") == at
    page.get_by_role("button", name="Latest").click()
    assert scroller(page, "scrollHeight") - scroller(page, "scrollTop") - scroller(page, "clientHeight") < 2


def test_all_of_it_works_by_keys_alone(serve: Serve, visit: Visit) -> None:
    first, second = FakeEngine("alpha"), FakeEngine("beta", words=LONG, pause_s=SLOW_S)
    page = visit(serve(first, second))
    expect(page.get_by_label("Message", exact=True)).to_be_focused()
    page.keyboard.press("Control+k")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator("#model-name")).to_have_text("beta")
    expect(page.get_by_label("Message", exact=True)).to_be_focused()
    page.keyboard.type("line one")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("line two")
    page.keyboard.press("Enter")
    expect(answers(page).last).to_contain_text("word2")
    page.keyboard.press("Escape")
    ended(page, "stopped")
    assert contents(second) == [("user", "line one\nline two")]
    for _ in range(30):
        page.keyboard.press("Shift+Tab")
        if page.evaluate("document.activeElement.textContent").strip() == "Models and load":
            break
    width = page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
    assert width == "2px", "who goes by keys must see where they are"
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Models and load")).to_be_visible()


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


def test_who_goes_back_from_a_deleted_conversation_gets_to_what_was_before_it(serve: Serve, visit: Visit) -> None:
    page = visit(serve(FakeEngine()))
    for text in ("first", "second"):
        page.get_by_role("link", name="New chat").click()
        ask(page, text)
        ended(page)
    page.locator("#conversations li").first.hover()
    page.get_by_role("button", name="Delete “second”").click()
    expect(page.locator("#welcome")).to_be_visible()
    page.go_back()
    expect(page.locator("#welcome")).to_be_visible()
    page.go_back()
    expect(page.locator(".asked")).to_have_text("first")


def test_two_tabs_show_the_same_conversations(serve: Serve, visit: Visit) -> None:
    page = visit(serve(FakeEngine()))
    other = page.context.new_page()
    other.goto(page.url)
    failures: list[str] = []
    other.on("pageerror", lambda error: failures.append(str(error)))
    ask(page, "shared")
    ended(page)
    link = other.get_by_role("link", name="shared")
    expect(link).to_be_visible()
    other.locator("#conversations li").hover()
    other.get_by_role("button", name="Rename “shared”").click()
    page.locator("#conversations li").hover()
    page.get_by_role("button", name="Delete “shared”").click()
    other.get_by_label("Name of the conversation").fill("gone")
    other.keyboard.press("Enter")
    expect(other.locator("#conversations li")).to_have_count(0)
    assert failures == []


def test_who_deletes_or_saves_what_another_tab_has_deleted_hears_nothing_bad(serve: Serve, visit: Visit) -> None:
    page = visit(serve(FakeEngine()))
    ask(page, "shared")
    ended(page)
    page.get_by_role("link", name="New chat").click()
    page.evaluate(
        "Object.keys(localStorage).filter((key) => key.includes('/conversation/'))"
        ".forEach((key) => localStorage.removeItem(key))"
    )
    page.locator("#conversations li").hover()
    page.get_by_role("button", name="Save “shared” as a file").click()
    page.get_by_role("button", name="Delete “shared”").click()
    expect(page.locator("#conversations li")).to_have_count(0)
