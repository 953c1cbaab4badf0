"""What a browser is sent for the page: little, nothing inline, nothing from elsewhere, and nothing that is old."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from hatchling.builders.wheel import WheelBuilder

from callers import Reply, ask, until
from fakes import FakeEngine
from modelengine_gateway import page

Serve = Callable[..., str]

MAX_BYTES = 60_000
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
FILES = sorted(path.name for path in page.FOLDER.iterdir())


@pytest.fixture
def front_door(serve: Serve) -> str:
    return serve(FakeEngine())


def get(front_door: str, path: str, **headers: str) -> Reply:
    return ask(
        front_door, path, method="GET", headers={name.replace("_", "-"): value for name, value in headers.items()}
    )


@pytest.mark.parametrize(
    ("accept", "wants"),
    [
        (BROWSER, True),
        ("TEXT/HTML", True),
        ("application/json, text/html;q=0.5", True),
        ("text/html;q=0, */*", False),
        ("*/*", False),
        ("text/*", False),
        ("application/json", False),
        ("", False),
        (";;,,q=1", False),
    ],
)
def test_only_who_names_html_is_shown_the_page(accept: str, wants: bool) -> None:
    assert page.wants_page(accept) is wants


def test_browsers_get_the_page_and_others_a_line(front_door: str) -> None:
    shown, told = get(front_door, "/", accept=BROWSER), get(front_door, "/", accept="*/*")
    assert shown.headers["content-type"] == "text/html; charset=utf-8"
    assert shown.body.startswith(b"<!doctype html>")
    assert shown.headers["vary"] == "accept"
    assert b"<" not in told.body


def test_every_file_is_sent_with_what_keeps_a_browser_safe(front_door: str) -> None:
    paths = ["/", *(f"/page/{name}" for name in FILES)]
    for reply in (get(front_door, path, accept=BROWSER) for path in paths):
        assert reply.status == 200
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["referrer-policy"] == "no-referrer"
        assert reply.headers["content-security-policy"] == (
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )


def test_all_of_it_is_small(front_door: str) -> None:
    sizes = {name: len(get(front_door, f"/page/{name}").body) for name in FILES}
    assert sum(sizes.values()) <= MAX_BYTES, sizes


def test_what_a_browser_has_is_not_sent_again_until_it_changes(front_door: str) -> None:
    for path in ("/", "/page/app.js"):
        first = get(front_door, path, accept=BROWSER)
        again = get(front_door, path, accept=BROWSER, if_none_match=f'"other", {first.headers["etag"]}')
        old = get(front_door, path, accept=BROWSER, if_none_match='"other"')
        assert (again.status, again.body, old.status) == (304, b"", 200)
        assert again.headers["etag"] == first.headers["etag"]
        assert first.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("name", ["nothing.js", "..%2fpage.py", "../page.py", "%2e%2e%2fapp.py", "page.py", ""])
def test_only_the_files_of_the_page_are_served(name: str, front_door: str) -> None:
    assert get(front_door, f"/page/{name}").status == 404


def test_no_text_is_ever_read_as_html_or_as_a_program() -> None:
    scripts = "".join(path.read_text() for path in page.FOLDER.glob("*.js"))
    for sink in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "srcdoc"):
        assert sink not in scripts
    index = (page.FOLDER / page.INDEX).read_text()
    assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son\w+=|javascript:", index)


def test_every_file_is_used_and_everything_used_is_there() -> None:
    texts = {path.name: path.read_text() for path in page.FOLDER.iterdir()}
    used = {name for text in texts.values() for name in re.findall(r'"(?:\./|page/)([\w.]+)"', text)}
    assert used | {page.INDEX} == set(FILES)
    icons = set(re.findall(r'path id="i-(\w+)"', texts[page.INDEX]))
    wanted = {name for text in texts.values() for name in re.findall(r'(?:#i-|icon\("|iconButton\(")(\w+)', text)}
    assert wanted - {"copy"} == icons - {"copy"}


def test_a_wheel_brings_the_page_along() -> None:
    root = page.FOLDER.parents[2]
    included = {file.distribution_path for file in WheelBuilder(str(root)).recurse_included_files()}
    assert {f"modelengine_gateway/web/{name}" for name in FILES} <= included


def test_comments_and_indents_stay_here_and_what_does_something_does_not() -> None:
    text = '// why\nconst a = "// text"; // at the end\n\n  /** what */\n  b(`x`);\n/* c */ d();\n'
    assert page.without_comments(text) == 'const a = "// text"; // at the end\nb(`x`);\n/* c */ d();\n'


def test_spaces_that_mean_something_in_a_style_sheet_stay() -> None:
    text = 'a b, :is(c) > d { margin: 0 calc(1px + 2px);\nfont: 1px "A B", c; }\n@media (x: 1px) { e { f: 0 } }\n'
    assert page.without_gaps(text) == (
        'a b,:is(c) > d{margin: 0 calc(1px + 2px);font: 1px "A B",c;}@media (x: 1px){e{f: 0}}'
    )
    strings = (page.FOLDER / "page.css").read_text().split('"')[1::2]
    assert not set("{};,").intersection("".join(strings))


def test_the_models_are_listed_for_whoever_asks(front_door: str) -> None:
    def listed() -> dict[str, Any]:
        [card] = get(front_door, "/models").msg["models"]
        return dict(card)

    assert until(lambda: "load" in listed())
    load = {"running": 0, "waiting": 0, "cache_usage": 0.0}
    assert listed() == {"name": "demo", "protocol": "chat", "replicas": 1, "load": load}
