"""Models from a hub: real hub code in a process of its own, against a small hub on the loopback."""

import hashlib
import os
import subprocess
import sys

import pytest
from fastapi import FastAPI, Response

from modelengine_runtime import source
from servers import running
from small_models import small_model

COMMIT = "c" * 40


def hub(folder):
    """The few routes that a snapshot download asks for."""
    app = FastAPI()
    files = {path.name: path.read_bytes() for path in folder.iterdir()}

    @app.get("/api/models/org/tiny/revision/{revision}")
    def model(revision: str):
        return {"sha": COMMIT, "id": "org/tiny", "siblings": [{"rfilename": name} for name in files]}

    @app.get("/api/models/org/tiny/tree/{revision}")
    def tree(revision: str):
        return [{"type": "file", "path": name, "size": len(data), "oid": COMMIT} for name, data in files.items()]

    @app.api_route("/org/tiny/resolve/{revision}/{name}", methods=["GET", "HEAD"])
    def resolve(revision: str, name: str):
        headers = {"x-repo-commit": COMMIT, "etag": f'"{hashlib.sha1(files[name]).hexdigest()}"'}
        return Response(files[name], headers=headers, media_type="application/octet-stream")

    @app.get("/api/models/{repository:path}")
    def unknown(repository: str):
        return Response(status_code=404, headers={"x-error-code": "RepoNotFound"})

    return app


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
def model_folder(tmp_path):
    folder = tmp_path / "model"
    small_model("llama").save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes((source.DEMO_FOLDER / "tokenizer.json").read_bytes())
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    return folder


def test_a_model_is_downloaded_once_without_its_pickles_and_then_found_offline(model_folder, tmp_path):
    with running(hub(model_folder)) as port:
        first = resolve("hf://org/tiny@main", f"http://127.0.0.1:{port}", tmp_path / "home")
    assert first.returncode == 0, first.stderr
    snapshot = first.stdout.strip()
    assert sorted(os.listdir(snapshot)) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    again = resolve("org/tiny", "http://127.0.0.1:9", tmp_path / "home", HF_HUB_OFFLINE="1")
    assert again.stdout.strip() == snapshot


def test_a_hub_that_can_not_be_reached_is_named_with_what_to_do(tmp_path):
    failed = resolve("hf://org/tiny", "http://127.0.0.1:9", tmp_path / "home")
    assert failed.returncode != 0
    assert "the hub http://127.0.0.1:9 can't be reached and no copy is cached" in failed.stderr
    assert "HF_ENDPOINT" in failed.stderr


def test_a_model_that_the_hub_does_not_have_is_named(model_folder, tmp_path):
    with running(hub(model_folder)) as port:
        failed = resolve("hf://org/other", f"http://127.0.0.1:{port}", tmp_path / "home")
    assert f"model 'org/other': the hub http://127.0.0.1:{port} does not have it" in failed.stderr
