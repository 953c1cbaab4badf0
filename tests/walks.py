"""What a person does on the page, in the words of a person. For tests/page, and for the pictures."""

from __future__ import annotations

from playwright.sync_api import Locator, Page, expect

# No sandbox, for root; no GPU; and nothing of what a browser asks of the network by itself.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

# What an engine says while a person does something else, word by word with this pause.
LONG = [f"word{i} " for i in range(2000)]
SLOW_S = 0.05


def ask(page: Page, text: str) -> None:
    page.get_by_label("Message", exact=True).fill(text)
    page.keyboard.press("Enter")


def choose(page: Page, model: str) -> None:
    page.keyboard.press("Control+k")
    page.get_by_role("combobox", name="Search models").fill(model)
    page.keyboard.press("Enter")
    expect(page.locator("#model-name")).to_have_text(model)


def answers(page: Page) -> Locator:
    return page.locator(".answer")


def ended(page: Page, state: str = "done", number: int = -1) -> Locator:
    """The answer of this number, the last one by default, once it has ended this way."""
    answer = answers(page).nth(number)
    expect(answer).to_have_attribute("data-state", state)
    return answer


def is_too_wide(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))
