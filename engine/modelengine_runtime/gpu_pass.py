"""A model's pass on a GPU: all its kernels as one CUDA graph for each of a few numbers of tokens.

Launching kernels one by one takes a CPU several times as long as a GPU takes to run them for a few tokens. A graph
reads its tokens, and whose they are, from tensors that stay where they are, so one graph serves every step of its size;
what is missing to that size is padding, which belongs to no sequence.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch

from modelengine_kernels.gpu.plan import Plan, lay_out
from modelengine_runtime.kv_cache import KVCache, Packed

log = logging.getLogger(__name__)

# Tokens of a step that there are graphs for. Larger steps are long enough to be launched kernel by kernel.
SIZES = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
# Of a large step few rows have their scores taken; the others are a prompt's.
FEW_ROWS = 64
# Keys that one program of the attention takes, at least, and partitions of a long context that there are. How many keys
# it takes decides in which order they are added up, so that follows from the model alone.
PARTITION = 256
PARTITIONS = 16
# Entries of all block tables that a graph has room for: so many blocks of 16 tokens.
TABLE_ENTRIES = 1 << 16

# Runs the model's own code over tokens `[1, size]` at positions `[1, size]`, and gives the scores `[rows, vocabulary]`
# of some rows of them, in float32.
Forward = Callable[[torch.Tensor, torch.Tensor, Packed, torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a pass over `size` tokens reads, as parts of one tensor `whole`, so that one copy brings it to the GPU."""

    whole: torch.Tensor
    tokens: torch.Tensor
    rows: torch.Tensor
    plan: Plan

    @classmethod
    def on(cls, device: torch.device, size: int, rows: int, entries: int, partition: int, partitions: int) -> Self:
        whole = torch.zeros(6 * size + rows + entries, dtype=torch.int64, device=device)
        tokens, positions, owners, selected, sequences, blocks = torch.split(
            whole, [size, size, size, rows, 3 * size, entries]
        )
        return cls(
            whole, tokens, selected, Plan(positions, owners, sequences.view(-1, 3), blocks, partition, partitions)
        )

    def fill(self, tokens: Sequence[int], positions: Sequence[int], packed: Packed, rows: Sequence[int]) -> None:
        size = len(self.tokens)
        owners, sequences, blocks = lay_out(size, packed.sequences)
        numbers = [
            *_padded(tokens, size),
            *_padded(positions, size),
            *owners,
            *_padded(rows, len(self.rows)),
            *_padded(sequences, 3 * size),
            *blocks,
        ]
        self.whole[: len(numbers)].copy_(torch.tensor(numbers))


def _padded(numbers: Sequence[int], size: int) -> list[int]:
    return [*numbers, *[0] * (size - len(numbers))]


class GpuPass:
    """Runs a model's own code, or what is recorded of it: a graph for each size that comes, over the cache that it
    comes with; another cache makes them anew. `context` is how long a sequence may become.
    """

    def __init__(self, forward: Forward, device: torch.device, context: int, has_graphs: bool = False) -> None:
        self._forward = forward
        self._device = device
        self._partition = max(PARTITION, _power_of_two(-(-context // PARTITIONS)))
        self._has_graphs = has_graphs
        self._cache: KVCache | None = None
        self._graphs: dict[_Kind, _Graph] = {}

    def run(self, tokens: Sequence[int], positions: Sequence[int], packed: Packed, rows: Sequence[int]) -> torch.Tensor:
        """The scores `[rows, vocabulary]` in float32, which the next pass may overwrite."""
        partitions = self._partitions(max(positions))
        graph = self._graph(packed, len(tokens), len(rows), partitions)
        if graph is not None:
            graph.inputs.fill(tokens, positions, packed, rows)
            graph.graph.replay()
            return graph.scores[: len(rows)]
        kind = _Kind(len(tokens), max(1, len(rows)), partitions)
        inputs = self._inputs(kind, max(1, _entries(packed)))
        inputs.fill(tokens, positions, packed, rows)
        packed.gpu_plan = inputs.plan
        return self._forward(inputs.tokens[None], inputs.plan.positions[None], packed, inputs.rows)[: len(rows)]

    def prepare(self, cache: KVCache) -> None:
        """Makes the graphs of all sizes, so that nobody waits for them later."""
        for partitions in (1, PARTITIONS):
            for size in SIZES:
                self._graph(Packed(cache, ()), size, 0, partitions)

    def _partitions(self, last: int) -> int:
        """How many a step with tokens up to this position needs: few different numbers, for each is compiled."""
        needed = last // self._partition + 1
        return 1 if needed == 1 else max(PARTITIONS, _power_of_two(needed))

    def _graph(self, packed: Packed, tokens: int, rows: int, partitions: int) -> _Graph | None:
        if packed.cache is not self._cache:
            self._graphs, self._cache = {}, packed.cache
        size = next((size for size in SIZES if size >= tokens), None)
        if size is None or partitions > PARTITIONS or _entries(packed) > TABLE_ENTRIES or not self._has_graphs:
            return None
        kind = _Kind(size, min(size, FEW_ROWS) if rows <= FEW_ROWS else size, partitions)
        if kind not in self._graphs:
            try:
                self._graphs[kind] = self._capture(packed.cache, kind)
            except RuntimeError as failure:
                log.warning("no CUDA graphs: %s", str(failure).strip().partition("\n")[0])
                self._has_graphs = False
                return None
        return self._graphs[kind]

    def _capture(self, cache: KVCache, kind: _Kind) -> _Graph:
        inputs = self._inputs(kind, TABLE_ENTRIES)
        nothing = Packed(cache, ())
        inputs.fill((), (), nothing, ())
        nothing.gpu_plan = inputs.plan
        arguments = inputs.tokens[None], inputs.plan.positions[None], nothing, inputs.rows
        # Kernels are compiled and the cache is made on first use, which a graph can't hold.
        self._forward(*arguments)
        graph = torch.cuda.CUDAGraph()
        # One pool for all: a step's scores are read before the next one begins.
        pool = next(iter(self._graphs.values())).graph.pool() if self._graphs else None
        with torch.cuda.graph(graph, pool=pool):
            scores = self._forward(*arguments)
        return _Graph(graph, inputs, scores)

    def _inputs(self, kind: _Kind, entries: int) -> Inputs:
        return Inputs.on(self._device, kind.size, kind.rows, entries, self._partition, kind.partitions)


class _Kind(NamedTuple):
    """Of a step: tokens, rows that have their scores taken, partitions of keys."""

    size: int
    rows: int
    partitions: int


@dataclass(frozen=True, slots=True)
class _Graph:
    graph: torch.cuda.CUDAGraph
    inputs: Inputs
    scores: torch.Tensor


def _entries(packed: Packed) -> int:
    return sum(len(span.blocks) for span in packed.spans)


def _power_of_two(least: int) -> int:
    return 1 << (least - 1).bit_length()
