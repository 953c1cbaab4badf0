"""The page's pure modules, by node's own test runner: the tests are beside this file, one for each module."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from debian import program
from modelengine_gateway.page import FOLDER

HERE = Path(__file__).parent
TESTS = sorted(HERE.glob("*.test.js"))


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.name)
def test_what_a_module_promises_holds(path: Path, tmp_path: Path) -> None:
    node = program("node", "nodejs")
    # The browser takes these files for modules because the page says so; node wants to read it.
    (tmp_path / "package.json").write_text('{"type": "module"}')
    shutil.copytree(FOLDER, tmp_path / "web")
    shutil.copy(path, tmp_path)
    done = subprocess.run([node, "--test", path.name], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "# pass 0" not in done.stdout
