"""Model folders to measure with, in which no token ends an answer: every answer has as many tokens as were asked for.

`demo` is the bundled model without its end-of-turn token. `q05` has random weights in the shape of Qwen2.5-0.5B and
the demo model's tokenizer: what it says means nothing, but takes as long as if it did.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

from bench import processes
from modelengine_runtime.source import DEMO_FOLDER

Q05 = {
    "hidden_size": 896,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "intermediate_size": 4864,
    "vocab_size": 151936,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "tie_word_embeddings": True,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": 0,
}
SEED = 1
MAKE_S = 600.0
# By file, the fields that name a token which ends an answer.
ENDINGS: dict[str, Collection[str]] = {
    "config.json": {"eos_token_id"},
    "generation_config.json": {"eos_token_id"},
    "tokenizer_config.json": {"eos_token"},
}


def make(shape: str, folder: Path) -> None:
    """Fills the folder. Weights are made in a process of their own, which then gives the memory back."""
    for file in DEMO_FOLDER.iterdir():
        shutil.copy(file, folder)
    if shape == "q05":
        processes.run_module("bench.shapes", str(folder), MAKE_S)
    remove_endings(folder)


def remove_endings(folder: Path) -> None:
    """From now on no token ends an answer of the model in this folder."""
    for name, fields in ENDINGS.items():
        path = folder / name
        path.write_text(json.dumps(without(json.loads(path.read_text()), fields), indent=1))


def without(settings: dict[str, Any], fields: Collection[str]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in fields}


def write_q05(folder: Path) -> None:
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(SEED)
    model = Qwen2ForCausalLM(Qwen2Config(**Q05)).to(torch.bfloat16)
    model.generation_config.do_sample = False
    model.save_pretrained(folder)


if __name__ == "__main__":
    write_q05(Path(sys.stdin.read()))
