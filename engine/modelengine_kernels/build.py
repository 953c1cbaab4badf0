"""Compiles the kernels when the package is built or installed. A hook of hatchling, named in pyproject.toml.

Without a compiler, as in an image that runs no engine, the package is made without them: the engine then computes with
torch alone. MODELENGINE_KERNELS=require makes that an error.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

HERE = Path(__file__).parent
# By what the processor must have; the loader takes the first that this one has (library.py).
VARIANTS = {
    "x86_64": {
        "avx512": ["-march=x86-64-v4", "-mavx512vnni", "-mprefer-vector-width=512"],
        "avx2": ["-march=x86-64-v3"],
    },
    "aarch64": {"neon": ["-march=armv8.2-a"]},
}
# No -ffast-math: the order of additions is what makes an answer the same everywhere.
FLAGS = ["-O3", "-std=c++17", "-fPIC", "-shared", "-pthread", "-ffp-contract=fast", "-Wall", "-Wextra", "-Wno-psabi"]


class Kernels(BuildHookInterface):  # type: ignore[type-arg]
    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        for old in HERE.glob("*.so"):
            old.unlink()
        if self.target_name != "wheel":
            return
        made = compile_all(os.environ.get("CXX", "g++"))
        if not made and os.environ.get("MODELENGINE_KERNELS") == "require":
            raise RuntimeError("MODELENGINE_KERNELS=require: there is no g++ here (CXX names another compiler)")
        if made:
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{platform.system().lower()}_{platform.machine()}"
            build_data["artifacts"] += [f"engine/{HERE.name}/{path.name}" for path in made]


def compile_all(compiler: str) -> list[Path]:
    """The libraries made, none without a compiler or for a machine that is not listed. Raises CalledProcessError."""
    variants = VARIANTS.get(platform.machine(), {})
    if platform.system() != "Linux" or not variants or shutil.which(compiler) is None:
        return []
    sources = sorted(str(path) for path in HERE.glob("*.cpp"))
    made = []
    for name, flags in variants.items():
        target = HERE / f"kernels-{name}.so"
        subprocess.run([compiler, *FLAGS, *flags, *sources, "-o", str(target)], check=True)
        made.append(target)
    return made
