"""Runs a model over chunks of sequences. Two ways, one interface (`loop.Runner`).

`PackedRunner` is the fast one: all chunks in one forward pass, over our own attention. `SequentialRunner` is the
correct one for models that do not go through transformers' attention interface: one sequence after the other, each
with the cache that transformers makes for the model. `choose` lets a model prove that the fast way gives its own
scores before it is trusted with it.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel

from modelengine_runtime import packed_attention, sampler
from modelengine_runtime.loop import Runner
from modelengine_runtime.packed_attention import KVCache, Packed, Span
from modelengine_runtime.scheduler import Chunk
from modelengine_runtime.sequence import ChatSequence

log = logging.getLogger(__name__)

PACKABLE_LAYERS = frozenset({"full_attention", "sliding_attention"})
# Rotations that depend on a token's position alone. The others (dynamic, longrope) look at the longest sequence of the
# row, so a long one would turn its neighbours' keys, and only in prompts longer than the self-check's.
PACKABLE_ROTATIONS = frozenset({"default", "linear", "llama3", "proportional", "yarn"})
# In shares of the scores' spread, by whether the model is float32. The fast way may round differently; a wrong mask
# or position is off by far more than this.
SELF_CHECK_TOLERANCE = {True: 0.02, False: 0.2}


class PackedRunner:
    """Continuous batching: the tokens of all sequences in one row, each sequence attending to its own cache."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        # On a CPU, attention over float32 is several times faster than over bfloat16.
        self._kv_dtype = torch.float32 if model.device.type == "cpu" else None
        self._caches: dict[int, KVCache] = {}

    @torch.inference_mode()
    def step(self, chunks: Sequence[Chunk]) -> list[int | None]:
        spans, tokens, positions = self._pack(chunks)
        last = [span.end - 1 for span, chunk in zip(spans, chunks, strict=True) if chunk.samples]
        return _sample(self.forward(tokens, positions, spans, last), chunks)

    def release(self, sequence: ChatSequence) -> None:
        self._caches.pop(sequence.id, None)

    def new_cache(self) -> KVCache:
        return KVCache(self._kv_dtype)

    @torch.inference_mode()
    def kv_bytes_per_token(self) -> int:
        """Measured, not read off the config: what models keep differs (latent attention, layers of two sizes)."""
        cache = self.new_cache()
        self.forward([0], [0], [Span(cache, 0, 1, 0)], [0])
        return cache.bytes_per_token

    def forward(
        self, tokens: Sequence[int], positions: Sequence[int], spans: Sequence[Span], rows: Sequence[int]
    ) -> torch.Tensor:
        """The logits `[len(rows), vocabulary]` in float32 of the packed tokens at `rows`."""
        packed = Packed(spans)
        device = self._model.device
        padding = [0] * (padded_length(len(tokens)) - len(tokens))
        output = self._model(
            input_ids=torch.tensor([[*tokens, *padding]], device=device),
            position_ids=torch.tensor([[*positions, *padding]], device=device),
            use_cache=False,
            logits_to_keep=torch.tensor(list(rows) or [0], device=device),
            packed=packed,
        )
        if not packed.calls:
            raise NotImplementedError("the model does not call its attention through transformers' interface")
        logits: torch.Tensor = output.logits[0].float()
        return logits if rows else logits[:0]

    def _pack(self, chunks: Sequence[Chunk]) -> tuple[list[Span], list[int], list[int]]:
        spans: list[Span] = []
        tokens: list[int] = []
        positions: list[int] = []
        for chunk in chunks:
            cache = self._caches.setdefault(chunk.sequence.id, self.new_cache())
            spans.append(Span(cache, len(tokens), len(tokens) + len(chunk.token_ids), chunk.start))
            tokens += chunk.token_ids
            positions += range(chunk.start, chunk.start + len(chunk.token_ids))
        return spans, tokens, positions


def padded_length(tokens: int) -> int:
    """The row length that `tokens` are padded to. The kernels are made anew for each length that they meet, in time
    and in memory that stays; so there are few lengths. The padding belongs to no sequence and changes no other row."""
    step = 1 if tokens <= 8 else 8 if tokens <= 64 else 32
    return -(-tokens // step) * step


class SequentialRunner:
    """One sequence after the other, with the model's own cache: for any model that generates at all.

    A prompt goes in whole, with its last chunk: recurrent layers do not take one in pieces.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        parameters = inspect.signature(model.forward).parameters
        self._cache_argument = "past_key_values" if "past_key_values" in parameters else "cache_params"
        self._states: dict[int, _State] = {}

    @torch.inference_mode()
    def step(self, chunks: Sequence[Chunk]) -> list[int | None]:
        rows = [self._logits(chunk) for chunk in chunks if chunk.samples]
        return _sample(torch.stack(rows) if rows else torch.empty(0), chunks)

    def release(self, sequence: ChatSequence) -> None:
        self._states.pop(sequence.id, None)

    def _logits(self, chunk: Chunk) -> torch.Tensor:
        sequence, end = chunk.sequence, chunk.start + len(chunk.token_ids)
        state = self._states.setdefault(sequence.id, _State(DynamicCache(config=self._model.config)))
        # A repeated chunk finds its tokens taken in, and only reads the scores again.
        if state.tokens < end:
            # Away until it is whole again: a pass that fails half-way leaves a cache that some layers have written.
            del self._states[sequence.id]
            tokens = sequence.tokens(state.tokens, end - state.tokens)
            output = self._model(
                input_ids=torch.tensor([list(tokens)], device=self._model.device),
                use_cache=True,
                logits_to_keep=1,
                **{self._cache_argument: state.cache},
            )
            state.tokens, state.logits = end, output.logits[0, -1].float()
            self._states[sequence.id] = state
        return state.logits


@dataclass(slots=True)
class _State:
    """What the SequentialRunner keeps of a sequence: its cache, the tokens taken in, the scores after the last."""

    cache: DynamicCache
    tokens: int = 0
    logits: torch.Tensor = field(default_factory=lambda: torch.empty(0))


def _sample(logits: torch.Tensor, chunks: Sequence[Chunk]) -> list[int | None]:
    """A token for each chunk that samples, from its row of logits; None for the others."""
    sampling = [chunk.sequence for chunk in chunks if chunk.samples]
    if not sampling:
        return [None] * len(chunks)
    tokens = iter(sampler.sample_rows(logits, sampling))
    return [next(tokens) if chunk.samples else None for chunk in chunks]


def choose(model: PreTrainedModel) -> Runner:
    """The PackedRunner where the model gives the same scores over it as over its own attention, else the other."""
    reference = reference_logits(model)
    own_attention = model.config._attn_implementation
    reason = why_not_packed(model, reference)
    if reason is None:
        return PackedRunner(model)
    log.warning("%s runs one request at a time: %s", type(model).__name__, reason)
    model.set_attn_implementation(own_attention)
    return SequentialRunner(model)


def _probe_tokens(model: PreTrainedModel) -> list[int]:
    vocabulary = int(model.get_input_embeddings().weight.shape[0])
    return [(7 * i + 3) % vocabulary for i in range(24)]


@torch.inference_mode()
def reference_logits(model: PreTrainedModel) -> torch.Tensor:
    """The model's scores `[tokens, vocabulary]` of a short made-up prompt, over its own attention."""
    logits: torch.Tensor = model(
        input_ids=torch.tensor([_probe_tokens(model)], device=model.device), use_cache=False
    ).logits
    return logits[0].float()


@torch.inference_mode()
def packed_logits(model: PreTrainedModel) -> torch.Tensor:
    """The same scores over the packed attention, in two sequences and in chunks: what the self-check compares."""
    tokens = _probe_tokens(model)
    total, half = len(tokens), len(tokens) // 2
    runner = PackedRunner(model)
    # Two sequences of the same tokens, one whole and one in two chunks, so that mixing them up would show.
    one, other = runner.new_cache(), runner.new_cache()
    first = runner.forward(
        tokens + tokens[:half],
        [*range(total), *range(half)],
        [Span(one, 0, total, 0), Span(other, total, total + half, 0)],
        range(total),
    )
    rest = runner.forward(tokens[half:], range(half, total), [Span(other, 0, total - half, half)], range(total - half))
    return torch.cat([first, rest])


def _rotations(config: Any) -> set[str]:
    """The kinds of rotary position encoding that the model has; some have one for each kind of layer."""
    parameters = getattr(config, "rope_parameters", None) or {}
    by_layer = [inner for inner in parameters.values() if isinstance(inner, Mapping)]
    return {str(each.get("rope_type") or "default") for each in by_layer or [parameters]}


def why_not_packed(model: PreTrainedModel, reference: torch.Tensor) -> str | None:
    """None when the packed attention gives the reference's scores; else what is in the way, in words.

    `reference` is what `reference_logits` or an earlier `packed_logits` gave.
    """
    layers = set(getattr(model.config.get_text_config(), "layer_types", None) or ()) - PACKABLE_LAYERS
    if layers:
        return f"it has layers of the kind {', '.join(sorted(layers))}"
    rotations = _rotations(model.config.get_text_config()) - PACKABLE_ROTATIONS
    if rotations:
        return f"its positions are encoded by the length of the prompt ({', '.join(sorted(rotations))})"
    try:
        model.set_attn_implementation(packed_attention.NAME)
        logits = packed_logits(model)
    except Exception as failure:  # Whatever a foreign model raises here means the same: not this way.
        return f"its attention can't be replaced ({failure})"
    total = len(_probe_tokens(model))
    reference = reference[:total]
    expected = torch.cat([reference, reference[total // 2 :]])
    worst = float((logits - expected).abs().max() / reference.std().clamp(min=1e-6))
    if worst > SELF_CHECK_TOLERANCE[model.dtype == torch.float32]:
        return f"packed, its scores differ by {worst:.3f} of their spread"
    return None
