"""Runs a model over chunks of sequences. Two ways, one interface (`loop.Runner`).

`PackedRunner` is the fast one: all chunks in one forward pass, over our own attention. `SequentialRunner` is the
correct one for models that do not go through transformers' attention interface: one sequence after the other, each
with the cache that transformers makes for the model. `choose` lets a model prove that the fast way gives its own
scores before it is trusted with it.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel

from modelengine_kernels import gpu, library
from modelengine_runtime import packing, paged_attention, recording, sampler
from modelengine_runtime.blocks import blocks_for
from modelengine_runtime.gpu_pass import GpuPass
from modelengine_runtime.kv_cache import KVCache, Packed, Span
from modelengine_runtime.loop import Runner
from modelengine_runtime.recording import RecordedPass
from modelengine_runtime.sampler import Asking
from modelengine_runtime.scheduler import Chunk
from modelengine_runtime.sequence import ChatSequence

log = logging.getLogger(__name__)

Recorded = RecordedPass | GpuPass

PACKABLE_LAYERS = frozenset({"full_attention", "sliding_attention"})
# Rotations that depend on a token's position alone. The others (dynamic, longrope) look at the longest sequence of the
# row, so a long one would turn its neighbours' keys, and only in prompts longer than the self-check's.
PACKABLE_ROTATIONS = frozenset({"default", "linear", "llama3", "proportional", "yarn"})
# How far a token's scores may be off, root mean square in shares of the scores' spread. The fast way may round
# differently, and where numbers are narrow that goes on: in 8 bits a last digit tips activations into the next step. A
# wrong mask or position is off by more than 1.
SELF_CHECK_TOLERANCE = {torch.float32: 0.005, torch.bfloat16: 0.2, torch.float16: 0.2, torch.int8: 0.5}


class PackedRunner:
    """Continuous batching: the tokens of all sequences in one row, each sequence attending to its own blocks."""

    def __init__(self, model: PreTrainedModel, kv_blocks: int = 0, recorded: Recorded | None = None) -> None:
        self._model = model
        self._has_packed_weights = packing.packed_share(model) > 0
        self._is_on_gpu = gpu.is_supported(next(model.parameters()))
        self.recorded = recorded or (self._gpu_pass() if self._is_on_gpu else None)
        self._cache = self._new_cache(kv_blocks)

    def record(self) -> None:
        """From now on without the model's own code between the kernels. Raises NotRecordable."""
        if self._is_on_gpu:
            self.recorded = self._gpu_pass(has_graphs=True)
            return
        vocabulary = int(self._model.config.get_text_config().vocab_size)
        self.recorded = recording.record(self._run_model, vocabulary)

    @torch.inference_mode()
    def reserve(self, kv_blocks: int) -> None:
        self._cache = self._new_cache(kv_blocks)
        if isinstance(self.recorded, GpuPass):
            self.recorded.prepare(self._cache)

    @torch.inference_mode()
    def step(self, chunks: Sequence[Chunk]) -> list[Sequence[int]]:
        spans: list[Span] = []
        tokens: list[int] = []
        positions: list[int] = []
        rows: list[int] = []
        for chunk in chunks:
            new = [*chunk.token_ids, *chunk.drafts]
            spans.append(Span(len(tokens), len(tokens) + len(new), chunk.start, chunk.blocks))
            positions += range(chunk.start, chunk.start + len(new))
            tokens += new
            if chunk.samples:
                rows += range(len(tokens) - 1 - len(chunk.drafts), len(tokens))
        # The last of a table is the newest.
        self._cache.take_ahead(max(chunk.blocks[-1] for chunk in chunks))
        return _sample(self.forward(tokens, positions, spans, rows), chunks)

    def release(self, sequence: ChatSequence) -> None:
        """The blocks are the scheduler's."""

    @torch.inference_mode()
    def kv_bytes_per_token(self) -> int:
        """Measured, not read off the config: what models keep differs (latent attention, layers of two sizes)."""
        trial = PackedRunner(self._model, kv_blocks=1)
        trial.forward([0], [0], [Span(0, 1, 0, [0])], [0])
        return trial._cache.bytes_per_token

    def forward(
        self, tokens: Sequence[int], positions: Sequence[int], spans: Sequence[Span], rows: Sequence[int]
    ) -> torch.Tensor:
        """The logits `[len(rows), vocabulary]` in float32 of the packed tokens at `rows`."""
        packed = Packed(self._cache, spans)
        if self.recorded is not None:
            return self.recorded.run(tokens, positions, packed, rows)
        return self._run_model(tokens, positions, packed, rows)

    def _run_model(
        self, tokens: Sequence[int], positions: Sequence[int], packed: Packed, rows: Sequence[int]
    ) -> torch.Tensor:
        device = self._model.device
        padding = [] if self._has_packed_weights else [0] * (padded_length(len(tokens)) - len(tokens))
        logits = self._run_tensors(
            torch.tensor([[*tokens, *padding]], device=device),
            torch.tensor([[*positions, *padding]], device=device),
            packed,
            torch.tensor(list(rows) or [0], device=device),
        )
        return logits if rows else logits[:0]

    def _run_tensors(
        self, tokens: torch.Tensor, positions: torch.Tensor, packed: Packed, rows: torch.Tensor
    ) -> torch.Tensor:
        output = self._model(
            input_ids=tokens, position_ids=positions, use_cache=False, logits_to_keep=rows, packed=packed
        )
        if not packed.calls:
            raise NotImplementedError("the model does not call its attention through transformers' interface")
        logits: torch.Tensor = output.logits[0].float()
        return logits

    def _gpu_pass(self, has_graphs: bool = False) -> GpuPass:
        context = int(getattr(self._model.config.get_text_config(), "max_position_embeddings", None) or 0)
        return GpuPass(self._run_tensors, self._model.device, context, has_graphs)

    def _new_cache(self, kv_blocks: int) -> KVCache:
        if self._model.device.type == "cpu" and library.load() is None:
            # torch's own attention on a CPU is several times faster over float32 than over bfloat16.
            return KVCache(kv_blocks, torch.float32)
        is_narrow = self._has_packed_weights and packing.number_type(self._model) != torch.float32
        return KVCache(kv_blocks, torch.bfloat16 if is_narrow else None)


def padded_length(tokens: int) -> int:
    """The row length that `tokens` are padded to. torch's kernels are made anew for each length that they meet, in time
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
    def step(self, chunks: Sequence[Chunk]) -> list[Sequence[int]]:
        rows = [self._logits(chunk) for chunk in chunks if chunk.samples]
        return _sample(torch.stack(rows) if rows else torch.empty(0), chunks)

    def reserve(self, kv_blocks: int) -> None:
        """Each sequence brings a cache of its own."""

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


def _sample(logits: torch.Tensor, chunks: Sequence[Chunk]) -> list[Sequence[int]]:
    """For each chunk that samples, the tokens after its last known one and after each of its drafts, from as many
    rows of logits; none for the others."""
    asking = [[*_asking(chunk)] if chunk.samples else [] for chunk in chunks]
    flat = [each for of_chunk in asking for each in of_chunk]
    tokens = iter(sampler.sample(logits, flat) if flat else ())
    return [[next(tokens) for _ in of_chunk] for of_chunk in asking]


def _asking(chunk: Chunk) -> Iterator[Asking]:
    """Whoever asks after a draft has it in his answer already."""
    sequence = chunk.sequence
    yield Asking(sequence.sampling, sequence.prompt, sequence.output, sequence.guide, sequence.likelihoods)
    for count in range(1, len(chunk.drafts) + 1):
        yield Asking(sequence.sampling, sequence.prompt, [*sequence.output, *chunk.drafts[:count]])


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


# The self-check's prompt, and the tokens in it whose scores are compared: a row of scores has as many numbers as the
# model knows tokens, and all rows at once would be much of what loading takes.
PROBE = 24
COMPARED = (0, 5, 11, 12, 17, 23)


def _probe_tokens(model: PreTrainedModel) -> list[int]:
    vocabulary = int(model.config.get_text_config().vocab_size)
    return [(7 * i + 3) % vocabulary for i in range(PROBE)]


@torch.inference_mode()
def reference_logits(model: PreTrainedModel) -> torch.Tensor:
    """The model's scores `[compared, vocabulary]` in a short made-up prompt, over its own attention."""
    logits: torch.Tensor = model(
        input_ids=torch.tensor([_probe_tokens(model)], device=model.device),
        use_cache=False,
        logits_to_keep=torch.tensor(COMPARED, device=model.device),
    ).logits
    return logits[0].float()


@torch.inference_mode()
def packed_logits(model: PreTrainedModel, recorded: Recorded | None = None) -> torch.Tensor:
    """The same scores over the packed attention, in two sequences and in chunks: what the self-check compares."""
    tokens = _probe_tokens(model)
    half = PROBE // 2
    blocks = blocks_for(PROBE)
    runner = PackedRunner(model, 2 * blocks, recorded)
    # Two sequences of the same tokens, one whole and one in two chunks, so that mixing them up would show.
    one, other = [*range(blocks)], [*range(2 * blocks - 1, blocks - 1, -1)]
    first = runner.forward(
        tokens + tokens[:half],
        [*range(PROBE), *range(half)],
        [Span(0, PROBE, 0, one), Span(PROBE, PROBE + half, 0, other)],
        [*COMPARED, *(PROBE + token for token in COMPARED if token < half)],
    ).clone()
    rest = runner.forward(
        tokens[half:],
        range(half, PROBE),
        [Span(0, PROBE - half, half, other)],
        [token - half for token in COMPARED if token >= half],
    )
    return torch.cat([first, rest])


def _rotations(config: Any) -> set[str]:
    """The kinds of rotary position encoding that the model has; some have one for each kind of layer."""
    parameters = getattr(config, "rope_parameters", None) or {}
    by_layer = [inner for inner in parameters.values() if isinstance(inner, Mapping)]
    return {str(each.get("rope_type") or "default") for each in by_layer or [parameters]}


def why_not_packed(model: PreTrainedModel, reference: torch.Tensor, recorded: Recorded | None = None) -> str | None:
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
        model.set_attn_implementation(paged_attention.NAME)
        logits = packed_logits(model, recorded)
    except Exception as failure:  # Whatever a foreign model raises here means the same: not this way.
        return f"its attention can't be replaced ({failure})"
    reference = reference[: len(COMPARED)]
    expected = torch.cat([reference, reference])
    worst = float((logits - expected).square().mean(dim=-1).sqrt().max() / reference.std().clamp(min=1e-6))
    if worst > SELF_CHECK_TOLERANCE[packing.number_type(model)]:
        return f"packed, its scores differ by {worst:.3f} of their spread"
    return None
