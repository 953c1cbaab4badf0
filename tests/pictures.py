"""Takes the pictures of the chat page in docs/images: `make pictures`. Looked at by people, compared by nobody.

The engines are played, so that each picture shows the same at every run, and a model without a replica is among them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, expect, sync_playwright

from debian import program
from fakes import FakeEngine
from played_cluster import open_front_door
from walks import FLAGS, ask, choose, ended

FOLDER = Path(__file__).parent.parent / "docs" / "images"
MAX_BYTES = 150_000
SIZES = {"1280": {"width": 1280, "height": 860}, "390": {"width": 390, "height": 844}}
QUESTION = "How does a hash table find an entry so fast?"
ANSWER = """A **hash table** keeps each entry in a *bucket* that the key's hash names, so a look-up needs no search.

```python
def bucket(key: str, size: int) -> int:
    return hash(key) % size  # the same key, the same bucket
```

| Deed | On average | At worst |
|---|---|---|
| look up | O(1) | O(n) |
| insert | O(1) | O(n) |

1. Hash the key.
2. Go to its bucket with `hash % size`.
3. Compare the keys there, and read the value.
"""


class LoadedEngine(FakeEngine):
    """Tells facts and a load, as an engine does."""

    async def info(self, model: str | None) -> Mapping[str, Any]:
        load = {"running": 3, "waiting": 0, "blocks_used": 121, "blocks_total": 890, "finished": 1204}
        load |= {"prompt_tokens": 48_210, "hit_tokens": 30_372}
        facts = {"parameters": 4_020_000_000, "context_length": 32_768, "dtype": "bfloat16", "device": "cuda"}
        return {**await super().info(model), **facts, "load": load}


def chat(page: Page) -> None:
    expect(page.locator("#model-state")).not_to_be_empty()
    choose(page, "qwen3-4b")
    ask(page, QUESTION)
    ended(page)


def models(page: Page) -> None:
    page.goto(page.url.partition("#")[0] + "#/models")
    expect(page.locator("#models dt").first).to_be_visible()


def take(browser: Browser, url: str, view: Callable[[Page], None], size: str, scheme: str) -> None:
    touch = {"has_touch": True, "is_mobile": True} if size == "390" else {}
    context = browser.new_context(viewport=SIZES[size], color_scheme=scheme, reduced_motion="reduce", **touch)
    page = context.new_page()
    page.goto(url)
    view(page)
    page.wait_for_timeout(300)
    path = FOLDER / f"page-{view.__name__}-{size}-{scheme}.png"
    page.screenshot(path=path)
    context.close()
    assert path.stat().st_size < MAX_BYTES, path


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    words = [ANSWER[i : i + 6] for i in range(0, len(ANSWER), 6)]
    fakes = [FakeEngine("demo"), *(LoadedEngine("qwen3-4b", words, pause_s=0.02) for _ in range(2))]
    with ExitStack() as stack:
        url = f"http://{open_front_door(stack, fakes, ['llama-3.3-70b'])}"
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=program("chromium", "chromium"), args=FLAGS)
        for view in (chat, models):
            for size in SIZES:
                for scheme in ("light", "dark"):
                    take(browser, url, view, size, scheme)
        browser.close()


if __name__ == "__main__":
    main()
