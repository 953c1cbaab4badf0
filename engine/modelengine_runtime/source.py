"""Where a model's files come from: the bundled demo, a folder, or the hub; and whether they are all there.

Every way ends in a folder that `check` has looked through, so that a missing or broken file is named before torch
starts. Imports the hub's library only when the hub is asked.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from modelengine.errors import ModelLoadError

DEMO_FOLDER = Path(__file__).parent / "demo_model"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tokenizer_config.json")
KNOWN_FORMS = "'demo', a folder, 'org/name' or 'hf://org/name@revision'"


@dataclass(frozen=True, slots=True)
class Source:
    """A parsed source. `where` is the folder's path or the repository's `org/name`; `name` the default served name."""

    kind: Literal["demo", "folder", "hub"]
    where: str
    name: str
    revision: str | None = None


def parse(text: str) -> Source:
    """Raises ModelLoadError for what is no source. A folder that exists wins over a hub name of the same spelling."""
    if text in ("demo", "demo://"):
        return Source("demo", str(DEMO_FOLDER), "demo")
    if text.startswith("hf://"):
        return _hub(text.removeprefix("hf://"), text)
    if "://" in text:
        raise ModelLoadError(f"model {text!r}: unknown kind of source; known are {KNOWN_FORMS}")
    path = Path(text).expanduser()
    if path.exists() or text.startswith((".", "/", "~")):
        return Source("folder", str(path), path.resolve().name)
    return _hub(text, text)


def _hub(spec: str, given: str) -> Source:
    repository, _, revision = spec.partition("@")
    if repository.count("/") != 1 or not all(repository.split("/")):
        raise ModelLoadError(f"model {given!r}: no such folder, and not a hub name; known are {KNOWN_FORMS}")
    return Source("hub", repository, repository, revision or None)


def resolve(source: str, *, progress: bool = True) -> Path:
    """The checked folder of the model, downloaded first where it comes from the hub. Raises ModelLoadError."""
    parsed = parse(source)
    if parsed.kind != "hub":
        folder = Path(parsed.where)
    else:
        from modelengine_runtime import hub

        folder = hub.Repository(parsed.where, parsed.revision).download(shows_bars=progress)
    check(folder)
    return folder


def check(folder: Path) -> None:
    """Raises ModelLoadError naming the file that is missing or broken, and what would do."""
    if not folder.is_dir():
        raise ModelLoadError(f"model folder {folder}: no such folder")
    if not (folder / "config.json").is_file():
        raise ModelLoadError(f"model folder {folder}: no config.json; is this a transformers model?")
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise ModelLoadError(f"model folder {folder}: no tokenizer; expected one of {', '.join(TOKENIZER_FILES)}")
    for weights in _weight_files(folder):
        _check_header(weights)


def _weight_files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        except (ValueError, KeyError, AttributeError) as broken:
            raise ModelLoadError(f"{index}: not a safetensors index ({broken!r})") from broken
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise ModelLoadError(
                f"model folder {folder}: {missing[0]} is missing ({len(missing)} of {len(names)} files)"
            )
        return [folder / name for name in names]
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickles = sorted(folder.glob("*.bin"))
        hint = f"; {pickles[0].name} is a pickle, which can run code: convert it to safetensors" if pickles else ""
        raise ModelLoadError(f"model folder {folder}: no *.safetensors{hint}")
    return files


def _check_header(weights: Path) -> None:
    """A safetensors file starts with the length of its JSON header, which must lie in the file and end its tensors."""
    size = weights.stat().st_size
    with weights.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        try:
            if length > size - 8:
                raise ValueError(f"a header of {length} bytes in a file of {size}")
            header = json.loads(file.read(length))
            end = (
                8
                + length
                + max((t["data_offsets"][1] for key, t in header.items() if key != "__metadata__"), default=0)
            )
        except (ValueError, KeyError, TypeError, AttributeError) as broken:
            raise ModelLoadError(f"{weights}: the safetensors header is corrupt ({broken})") from broken
    if end != size:
        raise ModelLoadError(f"{weights}: {size} bytes, its header says {end}; the file is cut off or damaged")
