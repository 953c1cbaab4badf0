"""Small models with random weights, one per architecture, and the engine's own way to run them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM, PreTrainedModel

from modelengine_runtime import loader
from modelengine_runtime.loop import Runner, StepLoop
from modelengine_runtime.sampling import Sampling
from modelengine_runtime.scheduler import Limits, Scheduler
from modelengine_runtime.sequence import ChatSequence, Event, Failure, Status
from modelengine_runtime.text import AnswerText

VOCABULARY = 300
# Room for every sequence of these tests at once.
KV_BLOCKS = 300
BASE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "eos_token_id": None,
    "pad_token_id": None,
    "bos_token_id": None,
}

# What each architecture needs besides BASE. Grouped-query and multi-head, sliding windows, soft caps, partial
# rotation, tied and untied heads, experts: the ways in which models differ where our attention has to follow.
PACKED: Mapping[str, Mapping[str, Any]] = {
    "qwen2": {"tie_word_embeddings": True},
    "qwen3": {"head_dim": 16},
    "llama": {},
    "mistral": {"sliding_window": 8},
    "gemma": {"head_dim": 16},
    "gemma2": {"head_dim": 16, "sliding_window": 8, "query_pre_attn_scalar": 16},
    "gemma3_text": {"head_dim": 16, "sliding_window": 8},
    "phi": {"num_key_value_heads": 4},
    "phi3": {},
    "olmo2": {},
    "deepseek_v3": {
        "num_key_value_heads": 4,
        "q_lora_rank": 16,
        "kv_lora_rank": 16,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 16,
        "v_head_dim": 16,
        "first_k_dense_replace": 3,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "n_group": 1,
        "topk_group": 1,
        "moe_intermediate_size": 32,
    },
    "qwen3_moe": {"head_dim": 16, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
}
SEQUENTIAL: Mapping[str, Mapping[str, Any]] = {
    "gpt_oss": {"head_dim": 16, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 8},
    "stablelm": {},
    "mamba": {"num_hidden_layers": 2, "num_attention_heads": None},
}


def small_model(architecture: str, seed: int = 1, **more: Any) -> PreTrainedModel:
    """float32, with weights large enough that the answers vary."""
    torch.manual_seed(seed)
    settings = {**BASE, **PACKED.get(architecture, {}), **SEQUENTIAL.get(architecture, {}), **more}
    config = CONFIG_MAPPING[architecture](**{key: value for key, value in settings.items() if value is not None})
    config.eos_token_id = config.pad_token_id = config.bos_token_id = None
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config).eval().float()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(3)
    return model


def packed(
    model: PreTrainedModel,
    folder: Path,
    dtype: torch.dtype = torch.float32,
    quantization: str = "none",
    device: str = "cpu",
) -> Any:
    """The model as the loader makes it from files, and its runner."""
    model.to(dtype).save_pretrained(folder)
    return loader.read(folder, AutoConfig.from_pretrained(folder), dtype, device, quantization)


def prompts(count: int = 8) -> list[list[int]]:
    """Prompts of different lengths; the longest are cut into chunks by `answers`."""
    return [[(i * 37 + j * 11 + 1) % VOCABULARY for j in range(5 + 3 * i)] for i in range(count)]


def generate(model: PreTrainedModel, prompt: Sequence[int], length: int) -> list[int]:
    """What transformers itself answers, greedily."""
    ids = torch.tensor([list(prompt)])
    output = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=length, do_sample=False, pad_token_id=0
    )
    return output[0, len(prompt) :].tolist()


def answers(
    runner: Runner,
    prompts: Sequence[Sequence[int]],
    length: int,
    sampling: Sequence[Sampling] | None = None,
    max_running: int = 8,
    step_tokens: int = 16,
) -> list[list[int]]:
    """What the engine answers to the prompts, all of them running together, without the thread."""
    runner.reserve(KV_BLOCKS)
    loop = StepLoop(Scheduler(Limits(max_running, len(prompts), step_tokens, KV_BLOCKS)), runner)
    sequences = [
        ChatSequence(
            id=i,
            prompt=prompt,
            limit=length,
            sampling=Sampling() if sampling is None else sampling[i],
            stop_tokens=frozenset(),
            text=AnswerText(lambda tokens: ""),
            deliver=raise_failure,
        )
        for i, prompt in enumerate(prompts)
    ]
    run(loop, sequences)
    return [sequence.output for sequence in sequences]


def raise_failure(event: Event) -> None:
    if isinstance(event, Failure):
        raise event.error


def run(loop: StepLoop, sequences: Sequence[ChatSequence]) -> None:
    """Until all have their answers. Those that are finished already, by what they are resumed with, are left out."""
    for sequence in sequences:
        if sequence.status is Status.WAITING:
            loop.submit(sequence)
    while any(sequence.status in (Status.WAITING, Status.RUNNING) for sequence in sequences):
        loop.turn(wait=False)
