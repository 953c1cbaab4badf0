"""Loads a checked folder into a model that makes vectors or scores, and says in one line what went wrong if it can't.

Plain transformers, in the numbers of the checkpoint: the kernels and packed weights are for models that write.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoModelForTextEncoding,
    AutoTokenizer,
    PreTrainedModel,
)
from transformers.utils import logging as transformers_logging

from modelengine.errors import ModelLoadError
from modelengine.protocol import EMBED, RERANK
from modelengine_runtime import encoder, loader, machine, packing, pooling
from modelengine_runtime.encoder import Encoder
from modelengine_runtime.encoder_model import LoadedEncoder
from modelengine_runtime.pooling import Pipeline

log = logging.getLogger(__name__)

# Made for other uses than a text's vector, and not used: checkpoints are often without.
UNUSED = ("pooler.",)
# Where a model has no limit of its own. Its attention's memory has one.
DEFAULT_LENGTH = 8192
CLASSES: Mapping[str, Any] = {EMBED: AutoModel, RERANK: AutoModelForSequenceClassification}


def load(
    folder: Path,
    protocol: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    quantization: str = packing.NONE,
    max_context: int = 0,
    threads: int = 0,
    progress: bool = False,
) -> LoadedEncoder:
    """Raises ModelLoadError. `max_context` 0 takes what the model was made for, `threads` 0 what suits its size and the
    machine."""
    if quantization != packing.NONE:
        raise ModelLoadError(f"quantization {quantization!r}: only chat models have it; use 'none' for {protocol!r}")
    where = loader.choose_device(device)
    (transformers_logging.enable_progress_bar if progress else transformers_logging.disable_progress_bar)()
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        model = _read(folder, protocol, config, _dtype(dtype, config, where)).to(where)
        # By the rule for models that write: what two threads win on an idle machine, they lose a hundredfold on a busy
        # one, where each waits for the other at every layer.
        torch.set_num_threads(threads or loader.choose_threads(packing.parameters(model), machine.cpu_limit()))
        make = _embedder if protocol == EMBED else _reranker
        return make(folder, model, tokenizer, max_context, where)
    except ModelLoadError:
        raise
    except Exception as failure:  # Foreign code reading foreign files raises anything; the user needs one line.
        raise ModelLoadError(f"model folder {folder}: {loader.first_line(failure)}") from failure


def _embedder(folder: Path, model: Any, tokenizer: Any, max_context: int, device: str) -> LoadedEncoder:
    pipeline = pooling.read(folder)
    layers = [encoder.dense(layer, load_file(layer.folder / "model.safetensors")) for layer in pipeline.dense]
    runner = encoder.EmbedEncoder(model, tokenizer.pad_token_id, pipeline, layers)
    return _loaded(
        EMBED,
        runner,
        model,
        tokenizer,
        pipeline,
        max_context,
        device,
        normalizes=pipeline.normalizes,
        dimensions=runner.dimensions,
        prompts=pipeline.prompts,
        default_prompt=pipeline.default_prompt,
        pools_prompt=pipeline.pools_prompt,
        lowercases=pipeline.lowercases,
    )


def _reranker(folder: Path, model: Any, tokenizer: Any, max_context: int, device: str) -> LoadedEncoder:
    if model.config.num_labels != 1:
        raise ValueError(f"it tells {model.config.num_labels} labels apart; a reranker has one, the score")
    pad_token = model.config.get_text_config().pad_token_id
    pad_token = tokenizer.pad_token_id if pad_token is None else pad_token
    # A model that scores by the last token looks for it before what fills up the row.
    model.config.get_text_config().pad_token_id = pad_token
    runner = encoder.RerankEncoder(model, pad_token)
    is_sigmoid = _is_sigmoid(model.config)
    return _loaded(RERANK, runner, model, tokenizer, Pipeline(), max_context, device, normalizes=is_sigmoid)


def _loaded(
    protocol: str,
    runner: Encoder,
    model: PreTrainedModel,
    tokenizer: Any,
    pipeline: Pipeline,
    max_context: int,
    device: str,
    **more: Any,
) -> LoadedEncoder:
    runner.prove(int(model.config.get_text_config().vocab_size))
    limits = [_positions(model), pipeline.max_length, max_context, _own_length(tokenizer)]
    length = min((limit for limit in limits if limit), default=DEFAULT_LENGTH)
    # What is too long is ours to say, and the library would warn of it in the log.
    tokenizer.model_max_length = int(1e30)
    return LoadedEncoder(
        protocol=protocol,
        runner=runner,
        tokenizer=tokenizer,
        architecture=type(model).__name__,
        parameters=packing.parameters(model),
        context_length=length,
        dtype=str(model.dtype).removeprefix("torch."),
        device=device,
        **more,
    )


def _read(folder: Path, protocol: str, config: Any, dtype: torch.dtype) -> PreTrainedModel:
    """Raises ValueError where the files lack a weight: transformers would make up a random one, and only warn."""
    is_encoder_of_two = config.is_encoder_decoder and protocol == EMBED
    kind = AutoModelForTextEncoding if is_encoder_of_two else CLASSES[protocol]
    with _quiet():
        model, report = kind.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            trust_remote_code=False,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    missing = sorted(name for name in report["missing_keys"] if protocol == RERANK or not name.startswith(UNUSED))
    if missing:
        raise ValueError(f"the weights lack {missing[0]} ({len(missing)} in all); do they belong to this config.json?")
    loaded: PreTrainedModel = model.eval()
    return loaded


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's table of weights that the checkpoint has for another use: what matters is said here."""
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)


def _dtype(asked: str, config: Any, device: str) -> torch.dtype:
    """`auto` is the checkpoint's own type, but on a CPU none that it can only emulate."""
    if asked != "auto":
        named: torch.dtype = getattr(torch, asked)
        return named
    stored = getattr(config.get_text_config(), "dtype", None) or torch.float32
    emulated = stored == torch.float16 or (stored == torch.bfloat16 and not machine.has_fast_bfloat16())
    return torch.float32 if device == "cpu" and emulated else stored


def _positions(model: PreTrainedModel) -> int | None:
    """How many tokens the model has positions for. Some count theirs from after the number of the padding token."""
    config = model.config.get_text_config()
    count = getattr(config, "max_position_embeddings", None)
    if not count:
        return None
    tables = (module for name, module in model.named_modules() if name.endswith("position_embeddings"))
    table = next((module for module in tables if isinstance(module, nn.Embedding)), None)
    first = 0 if table is None or table.padding_idx is None else table.padding_idx + 1
    return int(count) - first


def _own_length(tokenizer: Any) -> int | None:
    """None where the tokenizer says nothing: the library has a very large number then."""
    length = int(tokenizer.model_max_length)
    return length if length < 10**9 else None


def _is_sigmoid(config: Any) -> bool:
    """What sentence-transformers wrote down for a cross-encoder, and a sigmoid where nothing stands. Raises ValueError
    for another activation."""
    own = getattr(config, "sentence_transformers", None)
    named = own.get("activation_fn") if isinstance(own, dict) else None
    named = named or getattr(config, "sbert_ce_default_activation_function", None) or "Sigmoid"
    activation = str(named).rpartition(".")[2]
    if activation not in ("Sigmoid", "Identity"):
        raise ValueError(f"can't do its activation {activation}; known are Sigmoid and Identity")
    return activation == "Sigmoid"
