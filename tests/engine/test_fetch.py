"""The init container of an engine's pod: real processes, a real cache, and a small hub on the loopback."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from callers import ask, until
from hubs import CHUNK, COMMIT, FakeHub
from modelengine_runtime import source
from processes import free_port
from servers import running

TOKEN = "hf_thisTokenIsASecretOfTheTest"


def model_files(tensor_bytes: int) -> dict[str, bytes]:
    """What `source.check` takes for a model."""
    header = json.dumps({"w": {"dtype": "U8", "shape": [tensor_bytes], "data_offsets": [0, tensor_bytes]}}).encode()
    weights = struct.pack("<Q", len(header)) + header + b"\0" * tensor_bytes
    return {
        "config.json": b"{}",
        "tokenizer.json": b'{"a": 1}',
        "model.safetensors": weights,
        "pytorch_model.bin": b"a pickle",
    }


class Fetch:
    """One run of the init container."""

    def __init__(self, cache: Path, endpoint: str, model: str, **env: str) -> None:
        self.port = free_port()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "modelengine_runtime.fetch"],
            env={
                **{key: value for key, value in os.environ.items() if not key.startswith("HF_")},
                "MODELENGINE_MODEL_SOURCE": model,
                "MODELENGINE_LISTEN_PORT": str(self.port),
                "HF_HOME": str(cache),
                "HF_ENDPOINT": endpoint,
                "HF_HUB_DISABLE_XET": "1",
                **env,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self) -> tuple[int, str]:
        """The exit code and what was said."""
        _, err = self.process.communicate(timeout=60)
        return self.process.returncode, err

    @property
    def loading(self) -> dict[str, Any] | None:
        """What `/loading` says, None while nobody answers."""
        try:
            reply = ask(f"127.0.0.1:{self.port}", "/loading", method="GET")
        except OSError:
            return None
        assert reply.status == 200
        found: dict[str, Any] = reply.msg
        return found

    @property
    def stage(self) -> object:
        return (self.loading or {}).get("stage")


Start = Callable[..., Fetch]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Fetch] = []

    def start_one(endpoint: str = "http://127.0.0.1:9", model: str = "hf://org/tiny", **env: str) -> Fetch:
        started.append(Fetch(tmp_path / "cache", endpoint, model, **env))
        return started[-1]

    yield start_one
    for fetch in started:
        fetch.process.kill()
        with fetch.process:
            pass


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    return tmp_path / "cache/hub/models--org--tiny/snapshots" / COMMIT


@pytest.fixture
def hub() -> FakeHub:
    return FakeHub(model_files(1000))


@pytest.fixture
def endpoint(hub: FakeHub) -> Iterator[str]:
    with running(hub.app()) as port:
        yield f"http://127.0.0.1:{port}"


def test_a_model_is_fetched_once_checked_and_then_found_while_the_hub_is_away(
    hub: FakeHub, endpoint: str, start: Start, snapshot: Path
) -> None:
    assert start(endpoint).end()[0] == 0
    source.check(snapshot)
    assert sorted(hub.downloads) == ["config.json", "model.safetensors", "tokenizer.json"]
    asked = len(hub.asked)
    code, err = start().end()
    assert code == 0, err
    assert start(endpoint).end()[0] == 0
    assert len(hub.asked) == asked


def test_progress_is_told_in_bytes_while_it_comes(hub: FakeHub, endpoint: str, start: Start) -> None:
    hub.files, hub.pause_s = model_files(60 * CHUNK), 0.03
    fetch = start(endpoint)
    assert until(lambda: fetch.stage == "downloading", 10)
    seen = []
    while (told := fetch.loading) is not None and told["stage"] == "downloading":
        seen.append(told["bytes"])
        assert told["total"] == sum(len(data) for name, data in hub.files.items() if name != "pytorch_model.bin")
        time.sleep(0.1)
    assert len(set(seen)) > 3
    assert seen == sorted(seen)
    assert fetch.end()[0] == 0


def test_loading_is_answered_before_the_hub_has_said_anything(hub: FakeHub, endpoint: str, start: Start) -> None:
    hub.pause_s = 0.5
    fetch = start(endpoint)
    assert until(lambda: fetch.stage is not None, 2)
    reply = ask(f"127.0.0.1:{fetch.port}", "/ready", method="GET")
    assert (reply.status, reply.envelope["code"]) == (404, "not_found")


def test_it_starts_without_torch_and_without_a_web_framework() -> None:
    code = "import sys, modelengine_runtime.fetch\nfrom modelengine_runtime import hub\nprint(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "transformers", "fastapi", "starlette"} & set(modules)


def test_pods_that_share_a_cache_download_once_between_them(hub: FakeHub, endpoint: str, start: Start) -> None:
    hub.files, hub.pause_s = model_files(20 * CHUNK), 0.05
    pods = [start(endpoint) for _ in range(3)]
    assert until(lambda: sorted(map(str, (pod.stage for pod in pods)))[1:] == ["waiting for another download"] * 2, 10)
    assert [pod.end()[0] for pod in pods] == [0, 0, 0]
    assert sorted(hub.downloads) == ["config.json", "model.safetensors", "tokenizer.json"]


def test_a_fetch_that_was_killed_leaves_no_model_and_the_next_one_makes_it_whole(
    hub: FakeHub, endpoint: str, start: Start, snapshot: Path
) -> None:
    hub.files, hub.pause_s = model_files(60 * CHUNK), 0.05
    killed = start(endpoint)
    assert until(lambda: ((killed.loading or {}).get("bytes") or 0) > CHUNK, 10)
    killed.process.kill()
    assert not (snapshot / "model.safetensors").exists()
    (leftover,) = (snapshot.parent.parent / "blobs").glob("*.incomplete")
    os.utime(leftover, (0, 0))
    hub.pause_s = 0.0
    assert start(endpoint).end()[0] == 0
    source.check(snapshot)
    assert not leftover.exists()


def test_sigterm_ends_it_within_a_second_whatever_it_waits_for(hub: FakeHub, endpoint: str, start: Start) -> None:
    hub.files, hub.pause_s = model_files(60 * CHUNK), 0.5
    downloads = start(endpoint)
    assert until(lambda: downloads.stage == "downloading", 10)
    waits = start(endpoint)
    assert until(lambda: waits.stage == "waiting for another download", 10)
    for fetch in (waits, downloads):
        fetch.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        code, err = fetch.end()
        assert time.monotonic() - began < 1
        assert (code, err.splitlines()[-1]) == (143, "stopped before the model was complete")


def test_a_file_that_lost_its_end_in_a_crash_is_downloaded_again(
    hub: FakeHub, endpoint: str, start: Start, snapshot: Path
) -> None:
    assert start(endpoint).end()[0] == 0
    with (snapshot / "model.safetensors").open("r+b") as file:
        file.truncate(100)
    code, err = start(endpoint).end()
    assert code == 0, err
    assert "model.safetensors is cut off or damaged, it will be downloaded again" in err
    assert hub.downloads.count("model.safetensors") == 2
    assert hub.downloads.count("config.json") == 1
    source.check(snapshot)


def test_a_disk_that_is_too_small_is_named_with_both_sizes_before_anything_comes(
    hub: FakeHub, endpoint: str, start: Start
) -> None:
    class Endless(bytes):
        def __len__(self) -> int:
            return 2**60

    hub.files = {**hub.files, "model.safetensors": Endless(hub.files["model.safetensors"])}
    code, err = start(endpoint).end()
    assert code == 1
    assert err.splitlines()[-1].startswith("error: model 'org/tiny': 11529215046068")
    assert " bytes are needed in " in err
    assert " are free; make room, or give a larger disk" in err
    assert hub.downloads == []


@pytest.mark.parametrize(
    ("refusal", "model", "says"),
    [
        ((404, "RepoNotFound"), "hf://org/tiny", "does not have it, or it is private; check the name, or give"),
        ((401, ""), "hf://org/tiny", "refuses (401); give the token of an account that may read it"),
        ((403, "GatedRepo"), "hf://org/tiny", "it is gated; ask for access at http://127.0.0.1:"),
        ((403, ""), "hf://org/tiny", "refuses (403); give"),
        ((429, ""), "hf://org/tiny", "answers 429; try again later"),
        ((500, ""), "hf://org/tiny", "can't be reached and no copy is cached (HfHubHTTPError)"),
        (None, "hf://org/tiny@v9", "has it, but no revision 'v9'; give a branch, tag or commit"),
        (None, "hf://org/ti:ny", "no name of the hub: Repo id must use alphanumeric"),
        (None, "hf://tiny", "not a hub name"),
    ],
)
def test_what_the_hub_refuses_is_one_line_that_says_what_to_do(
    hub: FakeHub, endpoint: str, start: Start, refusal: tuple[int, str] | None, model: str, says: str
) -> None:
    hub.refusal = refusal
    code, err = start(endpoint, model, HF_TOKEN=TOKEN).end()
    assert code == 1
    (line,) = err.splitlines()
    assert line.startswith(f"error: model '{model if 'hub name' in says else model[5:].partition('@')[0]}': ")
    assert says in line


def test_a_hub_that_is_away_is_one_line_that_says_what_to_do(start: Start) -> None:
    code, err = start().end()
    assert (code, err.count("\n")) == (1, 1)
    assert "the hub http://127.0.0.1:9 can't be reached and no copy is cached (ConnectError)" in err
    assert "HF_ENDPOINT" in err


def test_a_model_that_is_broken_on_the_hub_is_named_by_its_file(hub: FakeHub, endpoint: str, start: Start) -> None:
    hub.files = {**hub.files, "model.safetensors": b"no weights"}
    code, err = start(endpoint).end()
    assert code == 1
    assert "model.safetensors: the safetensors header is corrupt" in err.splitlines()[-1]


def test_a_download_that_is_cut_off_is_no_model(hub: FakeHub, endpoint: str, start: Start, snapshot: Path) -> None:
    hub.files, hub.cut_at = model_files(4 * CHUNK), 2 * CHUNK
    code, err = start(endpoint).end()
    assert code == 1
    assert "was cut off on its way; try again" in err.splitlines()[-1]
    assert not (snapshot / "model.safetensors").exists()


def test_a_cache_that_can_not_be_written_is_named_with_who_wants_to(
    hub: FakeHub, endpoint: str, start: Start, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    code, err = start(endpoint).end()
    assert (code, err.count("\n")) == (1, 1)
    assert str(tmp_path / "cache") in err


@pytest.mark.parametrize("end", ["", "\n"])
def test_the_token_reaches_the_hub_and_no_log(hub: FakeHub, endpoint: str, start: Start, end: str) -> None:
    code, err = start(endpoint, HF_TOKEN=TOKEN + end, MODELENGINE_LOG_LEVEL="DEBUG").end()
    # The library asks one question, about itself, without it.
    assert (code, hub.tokens - {None}) == (0, {f"Bearer {TOKEN}"})
    assert TOKEN not in err


def test_a_hub_s_password_and_a_token_that_is_none_are_in_no_error(endpoint: str, hub: FakeHub, start: Start) -> None:
    hub.refusal = (403, "")
    code, err = start(endpoint.replace("://", "://me:password@")).end()
    assert code == 1
    assert "http://127.0.0.1:" in err
    assert "password" not in err
    code, err = start(endpoint, HF_TOKEN=TOKEN + "é").end()
    assert (code, TOKEN in err) == (1, False)


def test_a_source_that_is_no_hub_s_needs_no_fetch(start: Start) -> None:
    assert start(model="demo://").end()[0] == 0
