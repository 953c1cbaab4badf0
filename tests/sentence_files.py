"""What sentence-transformers lays beside a model that makes vectors of texts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def sentence_files(
    folder: Path,
    *,
    pooling: Mapping[str, Any] | None = None,
    normalize: bool = True,
    dense: Sequence[Mapping[str, Any]] = (),
    **files: Any,
) -> None:
    """What sentence-transformers writes; `files` are further ones, by their names without `.json`."""
    kinds = ["Transformer", "Pooling", *["Dense"] * len(dense), *["Normalize"] * normalize]
    modules = [
        {
            "idx": i,
            "name": str(i),
            "path": "" if i == 0 else f"{i}_{kind}",
            "type": f"sentence_transformers.models.{kind}",
        }
        for i, kind in enumerate(kinds)
    ]
    write(folder / "modules.json", modules)
    write(folder / "1_Pooling" / "config.json", {"pooling_mode_mean_tokens": True} if pooling is None else pooling)
    for i, config in enumerate(dense):
        write(folder / f"{i + 2}_Dense" / "config.json", config)
    for name, content in files.items():
        write(folder / f"{name}.json", content)


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
