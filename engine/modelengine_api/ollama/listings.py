"""The models that there are, as Ollama lists them: tags, ps and show. Pure.

What is not known is 0 or empty, never a guess: `size` and `size_vram` are of a file that Ollama would have, and
`modified_at` is when the engine that answered started, the only date that a name has here. `digest` is that of the
model's name, not of its weights: Ollama's command line shows the first twelve characters, and crashes where there are
none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelengine.protocol import CHAT, EMBED
from modelengine_api.backend import ModelCard
from modelengine_api.ollama import timestamps

DTYPES: Mapping[str, str] = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
HEADS = ("ForCausalLM", "ForConditionalGeneration", "ForSequenceClassification", "ForMaskedLM", "LMHeadModel", "Model")


@dataclass(frozen=True, slots=True)
class Told:
    """What a model's engine said about itself (as `Backend.info`), in seconds since 1970; nothing where it did not."""

    info: Mapping[str, Any] = field(default_factory=dict)
    at_s: float = 0.0

    @property
    def architecture(self) -> str:
        """`qwen3` of `Qwen3ForCausalLM`."""
        name = str(self.info.get("architecture", ""))
        head = next((head for head in HEADS if name.endswith(head) and name != head), "")
        return name.removesuffix(head).lower()

    @property
    def started_at(self) -> str:
        uptime_s = self.info.get("uptime_s")
        return timestamps.UNKNOWN if uptime_s is None else timestamps.to_the_second(self.at_s - uptime_s)


def tags(cards: Sequence[ModelCard], told: Mapping[str, Told]) -> dict[str, Any]:
    """Every name that can be asked for."""
    return {"models": [_tag(card, told.get(card.name, Told())) for card in cards]}


def ps(cards: Sequence[ModelCard], told: Mapping[str, Told]) -> dict[str, Any]:
    """The names that have a replica now."""
    return {"models": [_running(card, told.get(card.name, Told())) for card in cards if card.replicas]}


def show(told: Told) -> dict[str, Any]:
    """`template`, `parameters` and `license` are in the model's files, which stay with its engine."""
    return {
        "license": "",
        "modelfile": "",
        "parameters": "",
        "template": "",
        "details": _details(told),
        "model_info": _model_info(told),
        "capabilities": _capabilities(told.info),
        "modified_at": told.started_at,
    }


def parameter_size(parameters: int) -> str:
    """`3.4M`, `494M`, `7.6B`."""
    for unit, letter in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K")):
        if parameters >= unit:
            value = parameters / unit
            return f"{value:.0f}{letter}" if value >= 100 else f"{value:.1f}".removesuffix(".0") + letter
    return str(parameters)


def _tag(card: ModelCard, told: Told) -> dict[str, Any]:
    return {
        "name": card.name,
        "model": card.name,
        "modified_at": told.started_at,
        "size": 0,
        "digest": _digest(card.name),
        "details": _details(told),
    }


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def _running(card: ModelCard, told: Told) -> dict[str, Any]:
    return {
        "name": card.name,
        "model": card.name,
        "size": 0,
        "digest": _digest(card.name),
        "details": _details(told),
        "expires_at": timestamps.NEVER,
        "size_vram": 0,
        "context_length": int(told.info.get("context_length", 0)),
    }


def _details(told: Told) -> dict[str, Any]:
    parameters, dtype = told.info.get("parameters"), str(told.info.get("dtype", ""))
    return {
        "parent_model": "",
        "format": "safetensors" if told.info else "",
        "family": told.architecture,
        "families": [told.architecture] if told.architecture else [],
        "parameter_size": parameter_size(parameters) if parameters else "",
        "quantization_level": DTYPES.get(dtype, dtype.upper()),
    }


def _model_info(told: Told) -> dict[str, Any]:
    name = told.architecture
    facts = {
        "general.architecture": name or None,
        "general.parameter_count": told.info.get("parameters"),
        f"{name}.context_length": told.info.get("context_length") if name else None,
        f"{name}.embedding_length": told.info.get("dimensions") if name else None,
    }
    return {key: value for key, value in facts.items() if value is not None}


def _capabilities(info: Mapping[str, Any]) -> list[str]:
    if info.get("protocol", CHAT) == CHAT:
        return ["completion", *info.get("capabilities", ())]
    return ["embedding"] if info["protocol"] == EMBED else []
