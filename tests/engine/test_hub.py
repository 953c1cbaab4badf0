"""Models from a hub: real hub code in a process of its own, against a small hub on the loopback."""

import os
import subprocess
import sys

import pytest

import modelengine_runtime.hub
from hubs import FakeHub
from modelengine.errors import ModelLoadError
from modelengine_runtime import source
from servers import running
from small_models import small_model


def resolve(model, endpoint, home, **env):
    """`source.resolve` in a fresh process, because the hub's library reads its settings when it is imported."""
    code = f"from modelengine_runtime import source; print(source.resolve({model!r}))"
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", **env},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def hub(tmp_path):
    folder = tmp_path / "model"
    small_model("llama").save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes((source.DEMO_FOLDER / "tokenizer.json").read_bytes())
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    return FakeHub({path.name: path.read_bytes() for path in folder.iterdir()})


def test_a_model_is_downloaded_once_without_its_pickles_and_then_found_offline(hub, tmp_path):
    with running(hub.app()) as port:
        first = resolve("hf://org/tiny@main", f"http://127.0.0.1:{port}", tmp_path / "home")
    assert first.returncode == 0, first.stderr
    snapshot = first.stdout.strip()
    assert sorted(os.listdir(snapshot)) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    # In a pod the cache is mounted read-only.
    before = sorted((path, path.lstat().st_mtime_ns) for path in (tmp_path / "home").rglob("*"))
    again = resolve("org/tiny", "http://127.0.0.1:9", tmp_path / "home", HF_HUB_OFFLINE="1")
    assert again.stdout.strip() == snapshot
    assert sorted((path, path.lstat().st_mtime_ns) for path in (tmp_path / "home").rglob("*")) == before


def test_a_hub_that_can_not_be_reached_is_named_with_what_to_do(tmp_path):
    failed = resolve("hf://org/tiny", "http://127.0.0.1:9", tmp_path / "home")
    assert failed.returncode != 0
    assert "the hub http://127.0.0.1:9 can't be reached and no copy is cached" in failed.stderr
    assert "HF_ENDPOINT" in failed.stderr


def test_a_model_that_the_hub_does_not_have_is_named(hub, tmp_path):
    with running(hub.app()) as port:
        failed = resolve("hf://org/other", f"http://127.0.0.1:{port}", tmp_path / "home")
    assert f"model 'org/other': the hub http://127.0.0.1:{port} does not have it" in failed.stderr


def test_an_error_that_tells_the_token_is_told_without_it(monkeypatch):
    def tell(*_, **__):
        raise RuntimeError("no way with\nBearer hf_secret")

    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr(modelengine_runtime.hub, "snapshot_download", tell)
    with pytest.raises(ModelLoadError, match=r"failed: no way with Bearer \*\*\*$"):
        modelengine_runtime.hub.Repository("org/tiny", None).download()
