"""Makes what the peers need: their environments from locked requirements, llama.cpp from its sources, their models.

Everything here is done once (see `made`): about 10 minutes of compiling, and 10 GB with torch in two environments.
"""

from __future__ import annotations

import re
import shutil
import sys
from functools import partial
from pathlib import Path

from bench import host, processes
from bench.engine import made

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "peers"
UV = Path(sys.executable).with_name("uv")
# Its own server and quantizer, made for the CPU they run on; what only a browser or a download would need is left out.
LLAMA_CPP_OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DGGML_NATIVE=ON",
    "-DBUILD_SHARED_LIBS=OFF",
    "-DLLAMA_CURL=OFF",
    "-DLLAMA_OPENSSL=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_UI=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",
)
LLAMA_CPP_PROGRAMS = ("llama-server", "llama-quantize")
SOURCES = "source"
# Of the many packages in their environments, those whose versions say what was measured.
NAMED = ("llama-cpp-python", "openvino", "openvino-genai", "optimum-intel", "nncf")


def programs(peer: str) -> Path:
    """The folder of commands of the peer's environment."""
    locked = REQUIREMENTS / f"{peer}.txt"
    return made.once(made.home() / f"venvs/{peer}-{made.digest(locked)}", partial(_environment, locked)) / "bin"


def _environment(locked: Path, folder: Path) -> None:
    made.command([sys.executable, "-m", "venv", folder])
    made.command([UV, "pip", "sync", "--python", folder / "bin/python", "--require-hashes", locked])


def llama_cpp() -> Path:
    """The folder with llama.cpp's sources, and its programs in `bin`."""
    locked = REQUIREMENTS / "llamacpp.txt"
    return made.once(made.home() / f"llama.cpp-{made.digest(locked)}", partial(_llama_cpp, locked))


def _llama_cpp(locked: Path, folder: Path) -> None:
    """From the Python package's sources, which have llama.cpp's own in them, its server included."""
    # Only this one from its sources: pip asks its build tools for its name, and would make those from sources, too.
    sources = ["--no-deps", "--no-binary", "llama-cpp-python", "--require-hashes"]
    made.command([sys.executable, "-m", "pip", "download", *sources, "-r", locked, "-d", folder])
    [archive] = folder.glob("*.tar.gz")
    shutil.unpack_archive(archive, folder / "package", filter="data")
    [inside] = (folder / "package").glob("*/vendor/llama.cpp")
    inside.rename(folder / SOURCES)
    shutil.rmtree(folder / "package")
    build = folder / "build"
    made.command(["cmake", "-S", folder / SOURCES, "-B", build, *LLAMA_CPP_OPTIONS])
    targets = [word for program in LLAMA_CPP_PROGRAMS for word in ("--target", program)]
    made.command(["cmake", "--build", build, "--parallel", str(host.cores()), *targets])
    (folder / "bin").mkdir()
    for program in LLAMA_CPP_PROGRAMS:
        shutil.copy(build / "bin" / program, folder / "bin")
    shutil.rmtree(build)


def model(shape: str) -> Path:
    """The folder with the shape's weights as transformers reads them; those of the peers lie in folders beside it."""
    version = made.digest(HERE / "shapes.py", HERE / "vocabulary.py")
    folder = made.home() / f"models/{shape}-{version}"
    return made.once(folder, lambda empty: made.command([*processes.PYTHON, "bench.engine.shapes", shape, str(empty)]))


def openvino(shape: str, precision: str) -> Path:
    """The shape's model as OpenVINO reads it, with its weights in `int8` or `int4`."""
    source = model(shape)
    folder = source.with_name(f"{source.name}-openvino-{precision}")
    return made.once(folder, partial(_openvino, source, precision))


def _openvino(source: Path, precision: str, folder: Path) -> None:
    export: list[str | Path] = [programs("openvino") / "optimum-cli", "export", "openvino", "--model", source]
    # The server around it brings the tokenizer.
    options = ["--task", "text-generation-with-past", "--weight-format", precision, "--disable-convert-tokenizer"]
    made.command([*export, *options, folder], HF_HUB_OFFLINE="1")


def gguf(shape: str, precision: str) -> Path:
    """The shape's model as llama.cpp reads it, in `Q8_0` or `Q4_0`: the one file in a folder."""
    source = model(shape)
    folder = source.with_name(f"{source.name}-gguf-{precision}")
    return made.once(folder, partial(_gguf, source, precision)) / "model.gguf"


def _gguf(source: Path, precision: str, folder: Path) -> None:
    peer, wide = llama_cpp(), folder / "wide.gguf"
    python_path = f"{processes.ROOT}:{peer / SOURCES / 'gguf-py'}"
    made.command([*processes.PYTHON, "bench.engine.gguf_model", str(source), str(wide)], PYTHONPATH=python_path)
    made.command([peer / "bin/llama-quantize", wide, folder / "model.gguf", precision, str(host.cores())])
    wide.unlink()


def versions() -> dict[str, str]:
    """What the peers are, as locked."""
    text = "".join(file.read_text() for file in sorted(REQUIREMENTS.glob("*.txt")))
    return {name: found[1] for name in NAMED if (found := re.search(rf"^{name}==(\S+)", text, re.MULTILINE))}
