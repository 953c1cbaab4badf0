"""The chat page as a person uses it, in a real Chromium, over a real front door and engines that do as told."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Page, expect

from callers import until
from fakes import FakeEngine
from walks import LONG, SLOW_S, answers, ask, choose, ended

Serve = Callable[..., str]
Visit = Callable[..., Page]


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
