"""What a browser keeps: conversations, over reloads, in two tabs, and where there is no room for them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, expect

from fakes import FakeEngine
from walks import LONG, SLOW_S, answers, ask, ended

Serve = Callable[..., str]
Visit = Callable[..., Page]


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
