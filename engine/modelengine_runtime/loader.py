"""Loads a checked folder into a runner and a tokenizer, and says in one line what went wrong where it can't."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from modelengine.errors import ModelLoadError
from modelengine_kernels import library
from modelengine_kernels.gpu.layers import replace_linears
from modelengine_runtime import fusing, machine, memory, packing, runner
from modelengine_runtime.grammars import Grammars
from modelengine_runtime.loop import Runner
from modelengine_runtime.model import LoadedModel
from modelengine_runtime.recording import NotRecordable
from modelengine_runtime.response_parser import ResponseTemplate
from modelengine_runtime.text import Decode
from modelengine_runtime.vocabulary import Vocabulary

log = logging.getLogger(__name__)

DEFAULT_CONTEXT = 4096
# Below this, a second thread costs more in waiting for each other than it computes: a step of the demo model takes
# 4 ms on one thread, and where the other core is busy 30 ms on two.
PARAMETERS_PER_THREAD = 30_000_000
# Of all weights, in the kernels' hands.
MOSTLY, HALF = 0.8, 0.5


def load(
    folder: Path,
    *,
    device: str = "auto",
    dtype: str = "auto",
    quantization: str = packing.NONE,
    max_context: int = 0,
    threads: int = 0,
    progress: bool = False,
) -> LoadedModel:
    """Raises ModelLoadError.

    `max_context` 0 takes what the model was made for, `threads` 0 what suits its size and this machine; `progress`
    shows a bar on stderr.
    """
    where = choose_device(device)
    (transformers_logging.enable_progress_bar if progress else transformers_logging.disable_progress_bar)()
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        model, chosen = read(folder, config, choose_dtype(dtype, config, where, quantization), where, quantization)
    except Exception as failure:  # Foreign code reading foreign files raises anything; the user needs one line.
        raise ModelLoadError(f"model folder {folder}: {first_line(failure)}") from failure
    if not getattr(tokenizer, "chat_template", None):
        raise ModelLoadError(f"model folder {folder}: its tokenizer has no chat template, so it is not a chat model")
    parameters = packing.parameters(model)
    memory.trim()
    _use_threads(threads or choose_threads(parameters, machine.cpu_limit()), packing.packed_share(model))
    template = _response_template(model, tokenizer)
    stop_tokens = _stop_tokens(model, tokenizer)
    return LoadedModel(
        runner=chosen,
        tokenizer=tokenizer,
        decode=_decoder(tokenizer, _marks(tokenizer, template)),
        architecture=type(model).__name__,
        parameters=parameters,
        context_length=_context_length(config, max_context),
        dtype=_name(packing.number_type(model)) if quantization == packing.NONE else quantization,
        device=where,
        stop_tokens=stop_tokens,
        generation_defaults=model.generation_config.to_dict(),
        kv_bytes_per_token=(
            chosen.kv_bytes_per_token()
            if isinstance(chosen, runner.PackedRunner)
            else _estimated_kv_bytes_per_token(config, model.dtype)
        ),
        vocabulary=int(config.get_text_config().vocab_size),
        has_prefix_cache=isinstance(chosen, runner.PackedRunner),
        parsers=template,
        grammars=_grammars(tokenizer, stop_tokens),
    )


def choose_device(asked: str) -> str:
    """`auto` is the GPU where there is one. Raises ModelLoadError for a GPU that is not there."""
    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if asked.startswith("cuda") and not torch.cuda.is_available():
        raise ModelLoadError(f"device {asked!r}: torch sees no CUDA device; use 'auto' or 'cpu'")
    return asked


def choose_dtype(asked: str, config: Any, device: str, quantization: str = packing.NONE) -> torch.dtype:
    """`auto` is the checkpoint's own type, but for a CPU never one that it can only emulate: then float32. Beside
    quantized weights it is float32, because what is left are small layers, for whose precision there is time."""
    if asked != "auto":
        # The names that settings allow are torch's own.
        named: torch.dtype = getattr(torch, asked)
        return named
    stored = _stored_dtype(config)
    has_bfloat16 = library.load() is not None or machine.has_fast_bfloat16()
    is_slow = stored == torch.float16 or not has_bfloat16
    return torch.float32 if device == "cpu" and (is_slow or quantization != packing.NONE) else stored


def _stored_dtype(config: Any) -> torch.dtype:
    return getattr(config.get_text_config(), "dtype", None) or torch.float32


def choose_threads(parameters: int, cores: int) -> int:
    """Threads for a model of this size. A rule and not a measurement, so that equal replicas compute equally."""
    return max(1, min(cores, parameters // PARAMETERS_PER_THREAD))


def read(
    folder: Path, config: Any, dtype: torch.dtype, device: str, quantization: str
) -> tuple[PreTrainedModel, Runner]:
    """The model in the fastest form that it proves to be right in. Raises ValueError where it can't be as asked for."""
    bits = packing.bits(device, dtype, quantization)
    library.set_threads(machine.cpu_limit())
    if quantization != packing.NONE and not bits:
        raise ValueError(f"quantization {quantization!r} needs a CPU and the compiled kernels; 'none' does without")
    if bits:
        # The kernels' threads alone: torch's would wait for cores that those have.
        torch.set_num_threads(1)
        try:
            model = _read_weights(folder, config, dtype, device, bits)
            return model, _speed_up(model)
        except NotPackable as reason:
            if quantization != packing.NONE:
                raise NotPackable(f"quantization {quantization!r}: {reason}") from reason
            log.warning("%s runs without packed weights: %s", config.model_type, reason)
    model = _read_weights(folder, config, dtype, device)
    if replace_linears(model):
        try:
            return model, _speed_up(model)
        except NotPackable as reason:
            log.warning("%s runs without kernels for the GPU: %s", config.model_type, reason)
            model = _read_weights(folder, config, dtype, device)
    return model, runner.choose(model)


class NotPackable(ValueError):
    """This model does something with its weights that packed ones can't."""


def _read_weights(folder: Path, config: Any, dtype: torch.dtype, device: str, bits: int = 0) -> PreTrainedModel:
    """Packed in `bits`, or as they are for 0. Raises NotPackable where that would not make them narrower.

    Raises ValueError where the files lack a weight: transformers would make up a random one, and only warn.
    """
    model, report = AutoModelForCausalLM.from_pretrained(
        folder,
        config=copy.deepcopy(config),
        quantization_config=packing.Packing(bits) if bits else None,
        # Each weight is packed from what the file has: a conversion before would only take memory.
        dtype=_stored_dtype(config) if bits else dtype,
        trust_remote_code=False,
        use_safetensors=True,
        local_files_only=True,
        output_loading_info=True,
    )
    missing = sorted(name for name in report["missing_keys"] if not packing.is_made(name))
    if missing:
        raise ValueError(f"the weights lack {missing[0]} ({len(missing)} in all); do they belong to this config.json?")
    if bits and bits < 32 and packing.packed_share(model) < HALF:
        raise NotPackable("most of its weights are in no linear layer, and would become wider than they are")
    # What is not packed is small: there is time for its precision.
    loaded: PreTrainedModel = model.to(device) if not bits else nn.Module.to(model, torch.float32)
    return loaded.eval()


def _speed_up(model: PreTrainedModel) -> Runner:
    """Chooses the runner of a model with packed weights, fuses its small steps, and records its pass where that can be
    done. Raises NotPackable."""
    try:
        chosen = runner.choose(model)
    except Exception as failure:  # Whatever a foreign model raises over layers that are not torch's own.
        raise NotPackable(first_line(failure)) from failure
    if not isinstance(chosen, runner.PackedRunner):
        return chosen
    before = runner.packed_logits(model)
    fusing.fuse(model, lambda: runner.packed_logits(model))
    if reason := runner.why_not_packed(model, before):
        raise NotPackable(f"fused, {reason}")
    try:
        chosen.record()
    except NotRecordable as obstacle:
        log.info("%s runs by its own code: %s", type(model).__name__, obstacle)
        return chosen
    if reason := runner.why_not_packed(model, before, chosen.recorded):
        raise NotPackable(f"recorded, {reason}")
    return chosen


def _use_threads(count: int, packed_share: float) -> None:
    """For the kernels. For torch one, unless much is left for it to do: its idle threads would be in the way."""
    library.set_threads(count)
    torch.set_num_threads(1 if packed_share > MOSTLY else count)


def _context_length(config: Any, max_context: int) -> int:
    own = int(getattr(config.get_text_config(), "max_position_embeddings", None) or DEFAULT_CONTEXT)
    return min(own, max_context) if max_context else own


def _stop_tokens(model: PreTrainedModel, tokenizer: Any) -> frozenset[int]:
    """Every token that ends an answer: what the generation config lists, and the tokenizer's end of text."""
    configured = model.generation_config.eos_token_id
    listed = [configured] if isinstance(configured, int) else list(configured or ())
    own = tokenizer.eos_token_id
    return frozenset(listed if own is None else [*listed, own])


def _response_template(model: PreTrainedModel, tokenizer: Any) -> ResponseTemplate | None:
    """The tokenizer's own, else what transformers knows of the kind of model; None where it knows nothing."""
    found = getattr(tokenizer, "response_template", None)
    if found is None:
        # Half a second, for a server that is not ours.
        from transformers.cli.serving.utils import get_response_template

        found = get_response_template(tokenizer, model)
    if found is None:
        return None
    try:
        return ResponseTemplate(found, lambda tokens: str(tokenizer.decode(tokens, skip_special_tokens=False)))
    except (ValueError, TypeError, KeyError, AttributeError) as failure:
        log.warning("thoughts and tool calls stay in the text: the response template is wrong: %s", failure)
        return None


def _grammars(tokenizer: Any, stop_tokens: frozenset[int]) -> Grammars | None:
    """None for a tokenizer that is not of the `tokenizers` library, or a model that never ends its answer."""
    if not isinstance(tokenizer, PreTrainedTokenizerFast) or not stop_tokens:
        return None

    def describe() -> str:
        backend = copy.copy(tokenizer.backend_tokenizer)
        backend.no_padding()
        backend.no_truncation()
        return str(backend.to_str())

    return Grammars(Vocabulary(describe, stop_tokens))


def _marks(tokenizer: Any, template: ResponseTemplate | None) -> frozenset[int]:
    """The special tokens that must stand in the text, because they mark thoughts or calls."""
    return frozenset(token for token, text in _special(tokenizer).items() if template and template.needs(text))


def _special(tokenizer: Any) -> dict[int, str]:
    added = getattr(tokenizer, "added_tokens_decoder", {})
    return {token: added_token.content for token, added_token in added.items() if added_token.special}


def _decoder(tokenizer: Any, marks: frozenset[int]) -> Decode:
    """Tokens to text, of the special ones only the marks. Every token of every answer goes through this, in the step
    thread."""
    if isinstance(tokenizer, PreTrainedTokenizerFast):
        # Past the wrapper, which takes eight times as long as the decoding itself.
        backend = tokenizer.backend_tokenizer

        def write(tokens: Sequence[int], skip_special_tokens: bool) -> str:
            return str(backend.decode(tokens, skip_special_tokens=skip_special_tokens))
    else:

        def write(tokens: Sequence[int], skip_special_tokens: bool) -> str:
            return str(tokenizer.decode(tokens, skip_special_tokens, clean_up_tokenization_spaces=False))

    if not marks:
        return lambda tokens: write(tokens, True)
    dropped = frozenset(_special(tokenizer)) - marks
    return lambda tokens: write([token for token in tokens if token not in dropped], False)


def _estimated_kv_bytes_per_token(config: Any, dtype: torch.dtype) -> int:
    """For caches that transformers makes, and that can't be asked."""
    text = config.get_text_config()
    query_heads = getattr(text, "num_attention_heads", None)
    if not query_heads:
        # A recurrent model: its state does not grow with the text.
        return 1
    heads = getattr(text, "num_key_value_heads", None) or query_heads
    head_dim = getattr(text, "head_dim", None) or text.hidden_size // query_heads
    return int(text.num_hidden_layers * heads * head_dim * 2 * dtype.itemsize)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def first_line(failure: Exception) -> str:
    lines = str(failure).strip().splitlines()
    return lines[0] if lines else type(failure).__name__
