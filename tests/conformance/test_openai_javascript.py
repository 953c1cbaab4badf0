"""The `openai` JavaScript package against a live front door and engine: `js/openai.test.js`, run by node."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import debian

HERE = Path(__file__).parent / "js"
INSTALL_S, RUN_S = 300, 120


@pytest.fixture(scope="module")
def node() -> str:
    """Node, with the locked packages installed beside the suite. What is missing is a failure, not a skip."""
    node, npm = debian.program("node", "nodejs"), debian.program("npm", "npm")
    # npm writes this file last.
    installed = HERE / "node_modules" / ".package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < (HERE / "package-lock.json").stat().st_mtime:
        subprocess.run([npm, "ci", "--no-fund", "--no-audit"], cwd=HERE, check=True, timeout=INSTALL_S)
    return node


def test_the_javascript_package_answers_as_its_own_suite_wants(node: str, front_door_address: str) -> None:
    environment = {**os.environ, "MODELENGINE_URL": f"http://{front_door_address}/v1"}
    command = [node, "--test", "--test-reporter=tap", "openai.test.js"]
    run = subprocess.run(command, cwd=HERE, env=environment, capture_output=True, text=True, timeout=RUN_S)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "# pass 9" in run.stdout
