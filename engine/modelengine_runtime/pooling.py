"""How a model makes one vector of a text, read from the files that sentence-transformers lays beside it: which tokens
count, what comes after, which prompts it was trained with. No torch: `encoder.py` does what stands here.

Whatever such a file asks for and we don't do is an error of the load. A vector that is made another way than the model
was trained for looks like any other, and finds the wrong texts.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelengine.errors import ModelLoadError
from modelengine_runtime.checkpoint import MODULES_FILE, read_json

log = logging.getLogger(__name__)

# In the order in which several are put side by side.
MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
# What older files call them: a flag each.
FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
ACTIVATIONS = ("Identity", "Tanh", "ReLU", "GELU", "Sigmoid", "SiLU")
SENTENCE_CONFIGS = ("sentence_bert_config.json", "sentence_roberta_config.json", "sentence_xlm-roberta_config.json")


@dataclass(frozen=True, slots=True)
class Dense:
    """One more layer after the pooling, whose weights are in `folder`."""

    folder: Path
    size_in: int
    size_out: int
    has_bias: bool
    activation: str


@dataclass(frozen=True, slots=True)
class Pipeline:
    """`modes` are how the tokens' vectors become one; several stand side by side. `normalizes`: its length is 1 then.
    `pools_prompt`: the tokens of a prompt count too. `max_length` counts tokens, None where nothing is said."""

    modes: tuple[str, ...] = ("mean",)
    pools_prompt: bool = True
    dense: tuple[Dense, ...] = ()
    normalizes: bool = False
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    max_length: int | None = None
    lowercases: bool = False


def read(folder: Path) -> Pipeline:
    """Raises ModelLoadError naming the file, and what of it we can't do."""
    if not (folder / MODULES_FILE).is_file():
        log.warning("%s has no %s: the mean of the tokens' vectors is taken, as they are", folder, MODULES_FILE)
        return Pipeline()
    modules = [(_kind(module), _inside(folder, module)) for module in _modules(folder)]
    kinds = [kind for kind, _ in modules]
    order = ["Transformer", "Pooling", *["Dense"] * kinds.count("Dense"), *["Normalize"] * ("Normalize" in kinds)]
    if kinds != order or modules[0][1] != folder:
        raise ModelLoadError(
            f"{folder / MODULES_FILE}: can't do {' -> '.join(kinds) or 'nothing'}; what can be done is Transformer, "
            "in the folder itself -> Pooling -> any number of Dense -> Normalize or not"
        )
    modes, pools_prompt = _pooling(modules[1][1] / "config.json")
    prompts, default_prompt = _prompts(folder / "config_sentence_transformers.json")
    max_length, lowercases = _sentence_config(folder)
    return Pipeline(
        modes=modes,
        pools_prompt=pools_prompt,
        dense=tuple(_dense(at) for kind, at in modules if kind == "Dense"),
        normalizes="Normalize" in kinds,
        prompts=prompts,
        default_prompt=default_prompt,
        max_length=max_length,
        lowercases=lowercases,
    )


def _modules(folder: Path) -> Sequence[Mapping[str, Any]]:
    path = folder / MODULES_FILE
    modules = read_json(path)
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise ModelLoadError(f"{path}: must be a list of objects")
    return modules


def _kind(module: Mapping[str, Any]) -> str:
    """`Pooling` for sentence-transformers' own; the whole name of what needs code that comes with the model."""
    name = str(module.get("type"))
    return name.rpartition(".")[2] if name.startswith("sentence_transformers.") else name


def _inside(folder: Path, module: Mapping[str, Any]) -> Path:
    path = Path(str(module.get("path") or ""))
    if path.is_absolute() or ".." in path.parts:
        raise ModelLoadError(f"{folder / MODULES_FILE}: the path {str(path)!r} leads out of the model's folder")
    return folder / path


def _pooling(path: Path) -> tuple[tuple[str, ...], bool]:
    config = _object(path)
    named = config.get("pooling_mode")
    if named is None:
        unknown = [key for key, on in config.items() if key.startswith("pooling_mode") and on and key not in FLAGS]
        modes = [mode for flag, mode in FLAGS.items() if config.get(flag)]
    else:
        modes = [named] if isinstance(named, str) else list(named)
        unknown = [mode for mode in modes if mode not in MODES]
    if unknown or not modes:
        raise ModelLoadError(f"{path}: can't pool by {', '.join(map(str, unknown)) or 'nothing'}; known: {MODES}")
    return tuple(mode for mode in MODES if mode in modes), bool(config.get("include_prompt", True))


def _dense(folder: Path) -> Dense:
    path = folder / "config.json"
    config = _object(path)
    activation = str(config.get("activation_function", "torch.nn.modules.activation.Tanh")).rpartition(".")[2]
    if activation not in ACTIVATIONS:
        raise ModelLoadError(f"{path}: can't do the activation {activation}; known: {', '.join(ACTIVATIONS)}")
    try:
        sizes = int(config["in_features"]), int(config["out_features"])
    except (KeyError, TypeError, ValueError) as broken:
        raise ModelLoadError(f"{path}: in_features and out_features must be whole numbers") from broken
    return Dense(folder, *sizes, bool(config.get("bias", True)), activation)


def _prompts(path: Path) -> tuple[Mapping[str, str], str | None]:
    config = _object(path) if path.is_file() else {}
    prompts = config.get("prompts") or {}
    if not isinstance(prompts, dict) or not all(isinstance(text, str) for text in prompts.values()):
        raise ModelLoadError(f"{path}: prompts must be texts by name")
    default = config.get("default_prompt_name")
    if default is not None and default not in prompts:
        raise ModelLoadError(f"{path}: default_prompt_name {default!r} is none of {', '.join(prompts) or 'no prompts'}")
    return prompts, default


def _sentence_config(folder: Path) -> tuple[int | None, bool]:
    found = [folder / name for name in SENTENCE_CONFIGS if (folder / name).is_file()]
    config = _object(found[0]) if found else {}
    length = config.get("max_seq_length")
    if length is not None and (not isinstance(length, int) or length < 1):
        raise ModelLoadError(f"{found[0]}: max_seq_length must be a whole number of at least 1, got {length!r}")
    return length, bool(config.get("do_lower_case", False))


def _object(path: Path) -> dict[str, Any]:
    config = read_json(path)
    if not isinstance(config, dict):
        raise ModelLoadError(f"{path}: must be an object")
    return config
