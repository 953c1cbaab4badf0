"""The page's second view: models with their load, and the registry as it changes under the reader's eyes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

import processes
from fakes import FakeEngine
from modelengine import ChatClient, NameServerClient
from modelengine.protocol import ServerInfo
from walks import ask, choose, ended

Serve = Callable[..., str]
Visit = Callable[..., Page]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A front door and an engine with the demo model, as processes; gives the front door's address."""
    folder: Path = tmp_path_factory.mktemp("real")
    port = processes.free_port()
    with processes.front_door(folder, port), processes.engine(folder, port), ChatClient(f"127.0.0.1:{port}") as client:
        client.wait_service_available("demo", timeout=120)
        yield f"127.0.0.1:{port}"


def test_models_and_registry_follow_who_comes_and_goes(
    serve: Serve, visit: Visit, join: Callable[[str, FakeEngine], ServerInfo]
) -> None:
    front_door = serve(FakeEngine("alpha"))
    page = visit(front_door, "/#/models")
    expect(page.get_by_role("heading", name="alpha")).to_be_visible()
    expect(page.locator("#server")).to_contain_text("(in memory)")
    expect(page.locator("#registry tr")).to_have_count(1)
    info = join(front_door, FakeEngine("beta"))
    expect(page.locator("#registry")).to_contain_text(f"127.0.0.1:{info.port}")
    expect(page.locator("#changes")).to_contain_text(f"beta at 127.0.0.1:{info.port} is listed")
    expect(page.get_by_role("heading", name="beta")).to_be_visible()
    with NameServerClient(front_door) as names:
        names.deregister(info)
    expect(page.locator("#changes")).to_contain_text(f"beta at 127.0.0.1:{info.port} is gone")
    expect(page.get_by_role("heading", name="beta")).to_have_count(0)


def test_every_front_door_shows_what_all_replicas_report(
    serve: Serve, visit: Visit, join: Callable[[str, FakeEngine], ServerInfo]
) -> None:
    fakes = [FakeEngine("alpha", open_streams=2), FakeEngine("alpha", open_streams=3)]
    for front_door in (serve(*fakes), serve(*fakes)):
        row = visit(front_door, "/#/models").locator("#models li")
        expect(row.locator("dl div", has_text="answering").locator("dd")).to_have_text("5")
        expect(row).not_to_contain_text("load of one replica")
    fakes[0].open_streams = 7
    expect(row.locator("dl div", has_text="answering").locator("dd")).to_have_text("10")


def test_nothing_is_watched_once_the_view_is_left(serve: Serve, visit: Visit) -> None:
    page = visit(serve(FakeEngine()), "/#/models")
    expect(page.locator("#registry tr")).to_have_count(1)
    asked: list[str] = []
    page.on("requestfailed", lambda request: asked.append(request.url.rpartition("/")[2]))
    page.get_by_role("link", name="New chat").click()
    expect(page.locator("#welcome")).to_be_visible()
    page.wait_for_timeout(200)
    assert asked == ["watch"]
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(3500)
    assert asked == ["watch"]


def test_a_model_is_chatted_with_from_there(serve: Serve, visit: Visit) -> None:
    alpha, beta = FakeEngine("alpha"), FakeEngine("beta")
    page = visit(serve(alpha, beta))
    choose(page, "alpha")
    ask(page, "Hello")
    ended(page)
    page.get_by_role("link", name="Models and load").click()
    page.get_by_role("button", name="Chat with beta").click()
    expect(page.locator("#welcome")).to_be_visible()
    ask(page, "Hello beta")
    ended(page)
    assert (len(alpha.requests), len(beta.requests)) == (1, 1)
    page.get_by_role("link", name="Hello", exact=True).click()
    expect(page.locator("#model-name")).to_have_text("alpha")


def test_a_name_server_that_is_gone_is_said_and_found_again(serve: Serve, visit: Visit) -> None:
    page = visit(serve(FakeEngine()), "/#/models")
    expect(page.locator("#registry tr")).to_have_count(1)
    page.context.set_offline(True)
    expect(page.locator("#server")).to_contain_text("The front door does not answer.")
    page.context.set_offline(False)
    expect(page.locator("#server")).to_contain_text("(in memory)")


def test_the_demo_model_chats_and_its_load_is_shown(real: str, visit: Visit) -> None:
    page = visit(real)
    page.get_by_role("button", name="What is 27 + 45?").click()
    expect(ended(page)).to_contain_text("72")
    page.get_by_role("link", name="Models and load").click()
    row = page.locator("#models li")
    expect(row).to_contain_text("3.4M parameters, context 1K")
    expect(row.locator("dl")).to_contain_text("answering")
    # The one that came has ended.
    expect(row.locator("dl div", has_text="answering").locator("dd")).to_have_text("0", timeout=20_000)
