"""What a designer and a screen reader would complain of: widths, contrast, names, and motion."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from fakes import FakeEngine
from walks import ask, ended, is_too_wide

Serve = Callable[..., str]
Visit = Callable[..., Page]

# By the Web Content Accessibility Guidelines, level AA; large text is 24 px, or 19 px and bold.
ENOUGH, ENOUGH_WHERE_LARGE = 4.5, 3.0
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
WIDE = (
    "A-word-without-any-end-" * 20
    + "\n\n```\n"
    + "x" * 300
    + "\n```\n\n| "
    + " | ".join(["a long heading"] * 9)
    + " |\n|"
    + "-|" * 9
    + "\n"
)

# Every visible text with the contrast that it has to what is painted behind it, where that is too little.
FAINT = """([enough, large]) => {
  const parse = (text) => {
    const canvas = new OffscreenCanvas(1, 1).getContext("2d");
    canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const over = ([r, g, b, a], [R, G, B]) => [r, g, b].map((c, i) => (c * a + [R, G, B][i] * (255 - a)) / 255);
  const behind = (node) => {
    const layers = [];
    for (let one = node; one; one = one.parentElement) layers.unshift(parse(getComputedStyle(one).backgroundColor));
    return layers.reduce((below, layer) => over(layer, below), [255, 255, 255]);
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const faint = [];
  for (const node of document.querySelectorAll("body *")) {
    const style = getComputedStyle(node);
    const hasText = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
    if (!hasText || !node.checkVisibility({ visibilityProperty: true, opacityProperty: true })) continue;
    if (node.closest(".unseen, .waiting, :disabled, [inert]")) continue;
    const ground = behind(node);
    const [a, b] = [light(over(parse(style.color), ground)), light(ground)];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const size = parseFloat(style.fontSize);
    const need = size >= 24 || (size >= 19 && style.fontWeight >= 600) ? large : enough;
    if (contrast < need) faint.push(`${node.textContent.trim().slice(0, 40)}: ${contrast.toFixed(2)}`);
  }
  return faint;
}"""

# Everything that can be worked and has no name, from the browser's own accessibility tree.
WORKED = {"button", "link", "textbox", "combobox", "listbox", "option", "checkbox", "spinbutton", "dialog", "region"}


def nameless(page: Page) -> list[str]:
    client = page.context.new_cdp_session(page)
    nodes: list[dict[str, Any]] = client.send("Accessibility.getFullAXTree")["nodes"]
    seen = [node for node in nodes if not node.get("ignored")]
    roles = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in seen]
    assert len(roles) > 5
    return [role for role, name in roles if (role in WORKED or role in ("image", "img")) and not name.strip()]


def walk(page: Page, check: Callable[[str], None]) -> None:
    """Goes through every state that the page has, and checks each."""
    expect(page.locator("#examples li").first).to_be_visible()
    check("empty")
    page.get_by_role("button", name="Model: demo").click()
    check("picker")
    page.keyboard.press("Escape")
    ask(page, "Show " * 40)
    ended(page)
    check("answer")
    ask(page, "Show again")
    ended(page, number=1)
    page.get_by_role("button", name="Edit this message").first.click()
    check("edit")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Options").click()
    check("options")
    page.keyboard.press("Escape")
    if page.get_by_label("Open the menu").is_visible():
        page.get_by_label("Open the menu").click()
    page.locator("#conversations li").hover()
    check("side")
    page.get_by_role("button", name="API key").click()
    check("key")
    page.keyboard.press("Escape")
    page.locator("#conversations li").hover()
    page.get_by_role("button", name="Delete “Show").click()
    check("toast")
    page.goto(page.url.partition("#")[0] + "#/models")
    expect(page.locator("#registry tr")).to_have_count(1)
    expect(page.get_by_role("heading", name="demo")).to_be_visible()
    check("models")


@pytest.fixture
def tidy(serve: Serve) -> str:
    return serve(
        FakeEngine(words=[{"reasoning_content": "hm"}, f"> quote\n\n`code` [a](https://a.example/)\n\n{WIDE}"])
    )


@pytest.mark.parametrize("width", [390, 320])
def test_nothing_is_wider_than_a_phone(width: int, tidy: str, visit: Visit) -> None:
    page = visit(tidy, **{**PHONE, "viewport": {"width": width, "height": 700}})
    walk(page, lambda state: assert_fits(page, state))


def assert_fits(page: Page, state: str) -> None:
    assert not is_too_wide(page), state
    scrolled = page.locator("#scroll, #models-view, dialog[open]")
    wide = scrolled.evaluate_all("all => all.filter(n => n.scrollWidth > n.clientWidth).map(n => n.id)")
    assert wide == [], state


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read_and_everything_that_can_be_worked_has_a_name(
    scheme: str, tidy: str, visit: Visit
) -> None:
    page = visit(tidy, color_scheme=scheme, reduced_motion="reduce")

    def check(state: str) -> None:
        assert page.evaluate(FAINT, [ENOUGH, ENOUGH_WHERE_LARGE]) == [], state
        assert nameless(page) == [], state

    walk(page, check)


def test_a_failure_can_be_read_in_both_themes(serve: Serve, visit: Visit) -> None:
    front_door = serve(FakeEngine(break_after=2))
    for scheme in ("light", "dark"):
        page = visit(front_door, color_scheme=scheme)
        ask(page, "Hello")
        ended(page, "failed")
        assert page.evaluate(FAINT, [ENOUGH, ENOUGH_WHERE_LARGE]) == []


def test_the_page_has_its_landmarks_and_one_heading_of_the_first_order(tidy: str, visit: Visit) -> None:
    page = visit(tidy)
    for view in ("#/", "#/models"):
        page.goto(page.url.partition("#")[0] + view)
        for role in ("main", "banner", "complementary"):
            expect(page.get_by_role(role)).to_have_count(1)
        expect(page.get_by_role("heading", level=1)).to_have_count(1)
    expect(page.locator("html")).to_have_attribute("lang", "en")


def test_the_theme_that_was_chosen_stays(tidy: str, visit: Visit) -> None:
    page = visit(tidy, color_scheme="light")
    paper = "getComputedStyle(document.documentElement).backgroundColor"
    light = page.evaluate(paper)
    page.get_by_role("button", name="Dark theme").click()
    dark = page.evaluate(paper)
    page.reload()
    assert page.evaluate(paper) == dark != light
    page.get_by_role("button", name="Light theme").click()
    assert page.evaluate(paper) == light


def test_a_menu_on_a_phone_takes_and_gives_back_the_focus(tidy: str, visit: Visit) -> None:
    page = visit(tidy, **PHONE)
    menu = page.get_by_label("Open the menu")
    menu.click()
    expect(page.get_by_label("Close the menu")).to_be_focused()
    assert page.evaluate("document.getElementById('stage').inert")
    page.keyboard.press("Escape")
    expect(menu).to_be_focused()
    menu.click()
    page.get_by_role("link", name="Models and load").click()
    expect(page.get_by_role("heading", name="Models and load")).to_be_visible()
    expect(page.locator("#side")).to_be_hidden()


def test_escape_closes_the_menu_and_not_the_answer_behind_it(serve: Serve, visit: Visit) -> None:
    page = visit(serve(FakeEngine(words=["word "] * 2000, pause_s=0.05)), **PHONE)
    ask(page, "Talk.")
    menu = page.get_by_label("Open the menu")
    menu.click()
    page.keyboard.press("Escape")
    expect(menu).to_be_focused()
    expect(page.locator(".answer")).to_have_attribute("data-state", "open")
    page.keyboard.press("Escape")
    expect(page.locator(".answer")).to_have_attribute("data-state", "stopped")


def test_who_listens_hears_which_view_is_shown(tidy: str, visit: Visit) -> None:
    page = visit(tidy)
    models = page.get_by_role("link", name="Models and load")
    models.click()
    expect(models).to_have_attribute("aria-current", "page")
    page.get_by_role("link", name="New chat").click()
    expect(page.locator("#to-models[aria-current]")).to_have_count(0)


def test_who_wants_no_motion_sees_none(serve: Serve, visit: Visit) -> None:
    page = visit(serve(FakeEngine(words=["late"], pause_s=1.0)), reduced_motion="reduce")
    ask(page, "Hello")
    expect(page.locator(".waiting")).to_be_visible()
    assert page.evaluate("document.getAnimations().length") == 0


def test_lines_are_not_longer_than_can_be_read(tidy: str, visit: Visit) -> None:
    page = visit(tidy, viewport={"width": 2560, "height": 1200})
    ask(page, "Hello")
    ended(page)
    characters = page.evaluate(
        """() => { const probe = document.createElement("span"); probe.textContent = "0";
             document.querySelector(".prose p").append(probe); const width = probe.offsetWidth; probe.remove();
             return document.querySelector(".prose").offsetWidth / width; }"""
    )
    assert characters <= 80


def test_what_is_too_wide_scrolls_in_a_box_of_its_own(tidy: str, visit: Visit) -> None:
    page = visit(tidy, **PHONE)
    ask(page, "Hello")
    answer = ended(page)
    for box in (answer.locator("pre"), answer.locator(".sheet")):
        assert box.evaluate("node => { node.scrollLeft = 50; return node.scrollLeft; }") == 50
