"""What goes into the images, read from their recipes: they are built and run in tests/cluster."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROLES = {"operator": ("operator", "gateway"), "engine": ("engine",)}


def locked(name: str) -> dict[str, set[str]]:
    """Distribution -> its versions; more than one where they differ by Python's version."""
    found: dict[str, set[str]] = {}
    for line in (ROOT / "requirements" / f"{name}.txt").read_text().splitlines():
        if pinned := re.match(r"([\w.-]+)==([\w.+]+)", line):
            found.setdefault(pinned[1], set()).add(pinned[2])
    return found


def recipe(role: str) -> str:
    return (ROOT / role / "Dockerfile").read_text()


@pytest.mark.parametrize("name", [*ROLES, "build"])
def test_an_image_has_the_versions_that_were_tested(name: str) -> None:
    tested = locked("dev")
    assert {package: versions for package, versions in locked(name).items() if versions != tested[package]} == {}


@pytest.mark.parametrize("role", ROLES)
def test_an_image_has_all_that_its_role_asks_for_and_torch_only_where_a_model_runs(role: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(one for extra in ROLES[role] for one in project["optional-dependencies"][extra]),
    ]
    names = {re.split(r"[^\w.-]", requirement)[0] for requirement in wanted}
    has = locked(role)
    assert names <= has.keys()
    assert ("torch" in has) == (role == "engine")


@pytest.mark.parametrize("role", ROLES)
def test_every_download_of_a_build_is_checked_against_a_hash(role: str) -> None:
    # A backslash joins lines.
    runs = [line for line in recipe(role).replace("\\\n", "").splitlines() if line.startswith("RUN")]
    for step in [step for run in runs for step in run.split("&&") if re.search(r"pip (install|sync)", step)]:
        assert "--require-hashes" in step or "--no-index" in step, step


@pytest.mark.parametrize("role", ROLES)
def test_an_image_runs_as_a_user_that_is_not_root(role: str) -> None:
    assert re.findall(r"^USER (.*)$", recipe(role), re.MULTILINE) == ["10001:10001"]


def test_both_images_get_our_code_in_the_same_way() -> None:
    """But for who compiles the engine's kernels."""
    code = r"^FROM \S+ AS code\n(?:ENV MODELENGINE_KERNELS=require\n)?(.*?)(?=^FROM)"
    stages = [re.search(code, recipe(role), re.MULTILINE | re.DOTALL) for role in ROLES]
    assert stages[0] is not None
    assert stages[1] is not None
    assert stages[0][1] == stages[1][1]
