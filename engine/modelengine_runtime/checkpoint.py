"""Which protocol a checkpoint suits, by its own files. Read before anything is loaded, so that a model that is asked to
be what it is not says so in one line, and not by a weight that is missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from modelengine.errors import ModelLoadError
from modelengine.protocol import CHAT, EMBED, RERANK

PROTOCOL_VARIABLE = "MODELENGINE_PROTOCOL"
# What sentence-transformers lays beside a model that makes vectors.
MODULES_FILE = "modules.json"
GENERATES = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
CLASSIFIES = "ForSequenceClassification"


def require(folder: Path, protocol: str) -> None:
    """Raises ModelLoadError where the checkpoint's architecture can't serve the protocol. One that says nothing of its
    architecture is left to the loader."""
    architecture = _architecture(folder)
    suited = suits(architecture, (folder / MODULES_FILE).is_file())
    if suited is not None and suited != protocol:
        raise ModelLoadError(
            f"model folder {folder}: {architecture} can't serve the protocol {protocol!r}, it suits {suited!r}: "
            f"set spec.protocol, --protocol or {PROTOCOL_VARIABLE}"
        )


def suits(architecture: str | None, has_modules: bool) -> str | None:
    """The protocol of a model of this architecture; `has_modules`: sentence-transformers' files lie beside it."""
    if architecture is None:
        return EMBED if has_modules else None
    if architecture.endswith(CLASSIFIES):
        return RERANK
    if architecture.endswith(GENERATES) and not has_modules:
        return CHAT
    return EMBED


def read_json(path: Path) -> Any:
    """Raises ModelLoadError for what is no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as broken:
        raise ModelLoadError(f"{path}: can't be read as JSON ({broken})") from broken


def _architecture(folder: Path) -> str | None:
    config = read_json(folder / "config.json")
    named = config.get("architectures") if isinstance(config, dict) else None
    return named[0] if isinstance(named, list) and named and isinstance(named[0], str) else None
