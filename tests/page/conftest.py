"""A browser that a person could sit at, before a real front door. Whatever it complains of fails the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from callers import list_at
from debian import program
from fakes import FakeEngine
from modelengine.protocol import ServerInfo
from modelengine_gateway import app, upstream
from modelengine_gateway.settings import Settings
from servers import running
from walks import FLAGS

# A fake is registered once and stays for the whole test.
LONG_LEASE_S = 3600.0
# For what comes at once on an idle machine.
WAIT_MS = 20_000

expect.set_options(timeout=WAIT_MS)

Serve = Callable[..., str]
Visit = Callable[..., Page]


@dataclass
class Complaints:
    """What a page should never do: errors, and talk to anybody but the server that it is from."""

    origin: str
    found: list[str] = field(default_factory=list)

    def follow(self, page: Page) -> None:
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.found.append(str(error)))
        page.on("request", lambda request: self._request(request.url))

    def _console(self, message: ConsoleMessage) -> None:
        # The browser says this itself of any answer that is none of 200, and of a connection that breaks.
        if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
            self.found.append(message.text)

    def _request(self, url: str) -> None:
        if not url.startswith((self.origin, "blob:", "data:")):
            self.found.append(f"asked {url}")


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A browser keeps a machine so busy that an engine of this process may answer late, which is not dead."""
    for name in ("CONNECT_TIMEOUT_S", "PROBE_TIMEOUT_S"):
        monkeypatch.setattr(upstream, name, WAIT_MS / 1000)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = program("chromium", "chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def join(stack: ExitStack) -> Callable[[str, FakeEngine], ServerInfo]:
    """Starts a fake engine and registers it at the front door."""

    def join(front_door: str, fake: FakeEngine) -> ServerInfo:
        info = ServerInfo(fake.name, "127.0.0.1", stack.enter_context(running(fake.app(), grace_s=0)))
        list_at(info, front_door)
        return info

    return join


@pytest.fixture
def serve(stack: ExitStack, join: Callable[[str, FakeEngine], ServerInfo]) -> Serve:
    """A front door that lists these fake engines; gives its `host:port`."""

    def serve(*fakes: FakeEngine) -> str:
        door = app.create(Settings(lease_s=LONG_LEASE_S, queue_s=0))
        front_door = f"127.0.0.1:{stack.enter_context(running(door.app, on_stop=door.directory.close))}"
        for fake in fakes:
            join(front_door, fake)
        return front_door

    return serve


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """Opens the page of a front door in a browser that was never there before; options are those of its context."""
    opened: list[Complaints] = []
    with ExitStack() as closing:

        def visit(front_door: str, path: str = "/", **options: Any) -> Page:
            context = browser.new_context(**{"viewport": {"width": 1280, "height": 860}, **options})
            closing.callback(context.close)
            page = context.new_page()
            page.set_default_timeout(WAIT_MS)
            opened.append(Complaints(f"http://{front_door}"))
            opened[-1].follow(page)
            page.goto(f"http://{front_door}{path}")
            return page

        yield visit
    assert [complaint for complaints in opened for complaint in complaints.found] == []
