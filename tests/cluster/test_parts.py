"""What is missing on a machine is said, with what would do; nothing is skipped for it."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from cluster.harness import binaries, places, up


@pytest.fixture
def empty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine with nothing in its cache, and no program but Python."""
    monkeypatch.setattr(places, "CACHE", tmp_path / "cache")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(binaries, "SEARCH", str(tmp_path))
    return tmp_path


def test_without_go_it_says_what_to_install_or_to_set(empty: Path) -> None:
    with pytest.raises(places.Missing, match=r"install Go 1\.24 or newer .* or set MODELENGINE_TEST_HELM"):
        binaries.find(binaries.HELM)


def test_missing_programs_are_named_by_their_debian_packages(empty: Path) -> None:
    with pytest.raises(places.Missing, match=r"apt-get install iproute2 openssl util-linux$"):
        binaries.require(binaries.FOR_CONTROL_PLANE)


def test_a_program_may_be_given(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELENGINE_TEST_HELM", sys.executable)
    assert binaries.find(binaries.HELM) == Path(sys.executable)
    monkeypatch.setenv("MODELENGINE_TEST_HELM", str(empty / "nothing"))
    with pytest.raises(places.Missing, match=r"MODELENGINE_TEST_HELM is .*/nothing, which is no program"):
        binaries.find(binaries.HELM)


def test_what_go_cannot_build_is_said_in_its_words(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = empty / "go"
    go.write_text("#!/bin/sh\necho no route to the module proxy >&2\nexit 1\n")
    go.chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(empty), "/bin"]))
    with pytest.raises(places.Missing, match="pause could not be built by Go:\nno route to the module proxy"):
        binaries.find(binaries.PAUSE, lambda text: None)


def test_a_changed_recipe_makes_another_binary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = binaries.PAUSE.folder
    (tmp_path / "pause").mkdir()
    for name in ("go.mod", "main.go"):
        (tmp_path / "pause" / name).write_text((binaries.PAUSE.source / name).read_text() + "\n")
    monkeypatch.setattr(places, "SOURCES", tmp_path)
    assert binaries.PAUSE.folder.parent == before.parent
    assert binaries.PAUSE.folder != before


def test_who_is_not_root_is_told_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    # It would be this process whose Ctrl-C is changed.
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    assert up.main(["--control-plane"]) == 1
    said = "error: a test cluster needs root (network namespaces, containers): run this as root\n"
    assert capsys.readouterr().err == said
