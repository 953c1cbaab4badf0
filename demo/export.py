"""Writes the trained weights as the folder that ships: bf16 safetensors, configuration, and their checksum in the card.

python -m demo.export
"""

import argparse
import hashlib
import json
import re
import shutil
from pathlib import Path

import torch
from demo import paths, train
from transformers import Qwen3Config, Qwen3ForCausalLM


def export(checkpoint: Path, folder: Path) -> None:
    """Weights and the tokenizer they were trained with; the template and the card live in the folder already."""
    state = torch.load(checkpoint, map_location="cpu")
    model = Qwen3ForCausalLM(Qwen3Config(**train.SHAPE))
    model.load_state_dict(state["model"])
    model.to(torch.bfloat16)
    model.save_pretrained(folder)
    settings = {
        "do_sample": False,
        "eos_token_id": train.SHAPE["eos_token_id"],
        "pad_token_id": train.SHAPE["pad_token_id"],
    }
    (folder / "generation_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(paths.WORK / name, folder / name)
    (folder / "model.safetensors").chmod(0o644)
    _note_checksum(folder)


def _note_checksum(folder: Path) -> None:
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    card = folder / "README.md"
    card.write_text(re.sub(r"\b[0-9a-f]{64}\b", digest, card.read_text(encoding="utf-8")), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Export the demo model.")
    parser.add_argument("--checkpoint", type=Path, default=paths.CHECKPOINT)
    parser.add_argument("--folder", type=Path, default=paths.MODEL)
    arguments = parser.parse_args()
    export(arguments.checkpoint, arguments.folder)


if __name__ == "__main__":
    main()
