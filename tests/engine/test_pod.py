"""An engine with the environment that the operator gives it, and nothing else: what its log and its probes say."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from callers import ask, until
from processes import free_port

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def start_one(port: int, **env: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "modelengine_runtime"],
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(tmp_path),
                "MODELENGINE_MODEL_SOURCE": "demo://",
                "MODELENGINE_MODEL_NAME": "Org/Demo-1",
                "MODELENGINE_LISTEN_HOST": "0.0.0.0",
                "MODELENGINE_LISTEN_PORT": str(port),
                "MODELENGINE_DEVICE": "cpu",
                "MODELENGINE_GRACE_S": "10",
                **env,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start_one
    for process in started:
        process.kill()
        with process:
            pass


def test_the_log_says_name_and_port_when_it_serves_and_good_bye_when_it_is_stopped(start: Start) -> None:
    port = free_port()
    pod = start(port)
    assert pod.stdout is not None
    assert pod.stdout.readline() == f"ModelEngineInferenceEngine: Org/Demo-1 is running! port: {port}\n"
    assert until(lambda: ask(f"127.0.0.1:{port}", "/ready", method="GET").status == 200, 5)
    assert ask(f"127.0.0.1:{port}", "/loading", method="GET").msg["stage"] == "ready"
    pod.terminate()
    out, _ = pod.communicate(timeout=20)
    assert (pod.returncode, out) == (0, "ModelEngineInferenceEngine clean_up!\n")


def test_what_can_not_be_loaded_ends_the_pod_with_one_line_for_its_status(start: Start, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    pod = start(free_port(), MODELENGINE_MODEL_SOURCE=str(tmp_path / "model"))
    _, err = pod.communicate(timeout=60)
    assert pod.returncode == 1
    last = err.splitlines()[-1]
    assert last == f"error: model folder {tmp_path}/model: no config.json; is this a transformers model?"


def test_a_model_that_was_not_fetched_is_missed_without_asking_the_hub(start: Start, tmp_path: Path) -> None:
    env = {"HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    pod = start(free_port(), MODELENGINE_MODEL_SOURCE="hf://org/tiny", **env)
    _, err = pod.communicate(timeout=60)
    assert pod.returncode == 1
    last = err.splitlines()[-1]
    assert last.startswith("error: model 'org/tiny': no complete copy in ")
    assert last.endswith("and HF_HUB_OFFLINE forbids to ask the hub")
