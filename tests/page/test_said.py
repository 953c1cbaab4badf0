"""What a model says as it is shown: text that stays text, markdown, code, thoughts and calls."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Page, expect

from fakes import FakeEngine
from walks import LONG, answers, ask, ended

Serve = Callable[..., str]
Visit = Callable[..., Page]


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
