"""Runs a model that makes vectors of texts, or scores of pairs: rows in, one step, results out.

Rows of a step are filled up to the longest, and what fills them is masked. Whether a model keeps to that is tried
before it serves: for one that does not, each step has rows of one length.
"""

from __future__ import annotations

import inspect
import logging
from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from modelengine_runtime.batches import Result, Row
from modelengine_runtime.pooling import Dense, Pipeline

log = logging.getLogger(__name__)

# How far a result may be from the one of the row alone, relative to its length, for numbers of so many bits.
TOLERANCE = {16: 0.05, 32: 1e-3, 64: 1e-3}
PROBE_TOKENS = (9, 4)


def vectors(hidden: Tensor, counts: Tensor, modes: Sequence[str]) -> Tensor:
    """The tokens' vectors (rows, length, size) to one for each row; `counts` (rows, length) is 1 where a token counts.
    Several modes stand side by side."""
    return torch.cat([_POOLERS[mode](hidden, counts) for mode in modes], dim=1)


def _mean(hidden: Tensor, weights: Tensor) -> Tensor:
    return (hidden * weights.unsqueeze(-1)).sum(1) / weights.sum(1, keepdim=True).clamp(min=1)


def _mean_sqrt_len(hidden: Tensor, counts: Tensor) -> Tensor:
    return _mean(hidden, counts) * counts.sum(1, keepdim=True).sqrt()


def _weighted_mean(hidden: Tensor, counts: Tensor) -> Tensor:
    places = torch.arange(1, hidden.shape[1] + 1, device=hidden.device, dtype=hidden.dtype)
    return _mean(hidden, counts * places)


def _max(hidden: Tensor, counts: Tensor) -> Tensor:
    return hidden.masked_fill(counts.unsqueeze(-1) == 0, float("-inf")).amax(1)


def _first(hidden: Tensor, counts: Tensor) -> Tensor:
    return hidden[:, 0]


def _last(hidden: Tensor, counts: Tensor) -> Tensor:
    places = torch.arange(hidden.shape[1], device=hidden.device)
    last = (counts * places).argmax(1)
    return hidden[torch.arange(hidden.shape[0], device=hidden.device), last]


_POOLERS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cls": _first,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_sqrt_len,
    "weightedmean": _weighted_mean,
    "lasttoken": _last,
}


class Encoder:
    """What both kinds of model have in common: rows become tensors, and the steps keep to what the model can do."""

    def __init__(self, model: nn.Module, pad_token: int | None) -> None:
        self._model = model
        self._pad_token = pad_token or 0
        self._device = next(model.parameters()).device
        # Tokenizers tell of a second text also where the model does not ask.
        self._takes_types = "token_type_ids" in inspect.signature(model.forward).parameters
        self._fills = True

    @torch.inference_mode()
    def compute(self, rows: Sequence[Row]) -> Sequence[Result]:
        if self._fills or len({len(row.token_ids) for row in rows}) == 1:
            return self._compute(rows)
        results: dict[int, Result] = {}
        for length in {len(row.token_ids) for row in rows}:
            alike = [i for i, row in enumerate(rows) if len(row.token_ids) == length]
            results |= zip(alike, self._compute([rows[i] for i in alike]), strict=True)
        return [results[i] for i in range(len(rows))]

    def prove(self, tokens: int) -> None:
        """Finds out whether rows may be filled up, with two that consist of some of the first `tokens` tokens."""
        probes = [_probe(length, tokens) for length in PROBE_TOKENS]
        try:
            with torch.inference_mode():
                together = self._raw(probes)
                alone = torch.cat([self._raw([probe]) for probe in probes])
            bits = torch.finfo(next(self._model.parameters()).dtype).bits
            distance = (together - alone).norm(dim=1) / alone.norm(dim=1).clamp(min=1e-6)
            self._fills = bool((distance <= TOLERANCE[bits]).all())
        except (ValueError, RuntimeError, IndexError) as refused:
            # Some refuse rows of several lengths; what they refuse in truth, the first real text will show.
            log.debug("the trial of filled rows failed: %r", refused)
            self._fills = False
        if not self._fills:
            log.warning("%s minds what fills up a row: steps have rows of one length", type(self._model).__name__)

    def _compute(self, rows: Sequence[Row]) -> Sequence[Result]:
        raise NotImplementedError

    def _raw(self, rows: Sequence[Row]) -> Tensor:
        """(rows, size), float32: what the model makes of each, before a request's own wishes."""
        raise NotImplementedError

    def _inputs(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        longest = max(len(row.token_ids) for row in rows)
        lengths = torch.tensor([len(row.token_ids) for row in rows])
        inputs = {
            "input_ids": _filled([row.token_ids for row in rows], longest, self._pad_token),
            "attention_mask": (torch.arange(longest) < lengths.unsqueeze(1)).long(),
        }
        types = [row.type_ids for row in rows if row.type_ids is not None]
        if types and self._takes_types:
            inputs["token_type_ids"] = _filled(types, longest, 0)
        return {name: tensor.to(self._device) for name, tensor in inputs.items()}


class EmbedEncoder(Encoder):
    """Texts to vectors."""

    def __init__(
        self, model: nn.Module, pad_token: int | None, pipeline: Pipeline, layers: Sequence[nn.Module]
    ) -> None:
        super().__init__(model, pad_token)
        self._modes = pipeline.modes
        self._layers = [layer.to(self._device) for layer in layers]
        self._more: dict[str, Any] = {"use_cache": False} if hasattr(model.config, "use_cache") else {}

    @property
    def dimensions(self) -> int:
        with torch.inference_mode():
            return int(self._raw([_probe(1, 1)]).shape[1])

    def _raw(self, rows: Sequence[Row]) -> Tensor:
        inputs = self._inputs(rows)
        hidden = self._model(**inputs, **self._more).last_hidden_state.float()
        counts = inputs["attention_mask"].to(hidden.dtype)
        skipped = torch.tensor([row.skipped for row in rows], device=self._device).unsqueeze(1)
        if skipped.any():
            counts = counts * (torch.arange(hidden.shape[1], device=self._device) >= skipped)
        found = vectors(hidden, counts, self._modes)
        for layer in self._layers:
            found = layer(found)
        return found

    def _compute(self, rows: Sequence[Row]) -> Sequence[Result]:
        found = self._raw(rows).cpu()
        return [_wished(vector, row) for vector, row in zip(found, rows, strict=True)]


class RerankEncoder(Encoder):
    """Queries with documents to scores."""

    def _raw(self, rows: Sequence[Row]) -> Tensor:
        found: Tensor = self._model(**self._inputs(rows)).logits.float()
        return found

    def _compute(self, rows: Sequence[Row]) -> Sequence[Result]:
        logits = self._raw(rows)[:, 0].cpu()
        scores = torch.where(torch.tensor([row.normalize for row in rows]), logits.sigmoid(), logits)
        if not scores.isfinite().all():
            raise ValueError("the model made numbers that are none (NaN or infinite)")
        return [float(score) for score in scores]


def dense(layer: Dense, weights: Mapping[str, Tensor]) -> nn.Module:
    """The layer with its weights, in float32. Raises ValueError where they do not fit."""
    linear = nn.Linear(layer.size_in, layer.size_out, bias=layer.has_bias)
    wanted = {name: tuple(tensor.shape) for name, tensor in linear.state_dict().items()}
    given = {name.removeprefix("linear."): tensor for name, tensor in weights.items()}
    if wanted != {name: tuple(tensor.shape) for name, tensor in given.items()}:
        raise ValueError(f"{layer.folder.name}: its weights are {', '.join(sorted(weights))}, not those of its config")
    linear.load_state_dict({name: tensor.float() for name, tensor in given.items()})
    activation: nn.Module = getattr(nn, layer.activation)()
    return nn.Sequential(linear, activation).eval()


def _filled(rows: Sequence[array[int]], longest: int, filler: int) -> Tensor:
    filled = torch.full((len(rows), longest), filler, dtype=torch.long)
    for i, row in enumerate(rows):
        filled[i, : len(row)] = torch.frombuffer(row, dtype=torch.int32)
    return filled


def _probe(length: int, tokens: int) -> Row:
    return Row(array("i", [(7 * i + 3) % tokens for i in range(length)]))


def _wished(vector: Tensor, row: Row) -> bytes:
    if not vector.isfinite().all():
        raise ValueError("the model made numbers that are none (NaN or infinite)")
    cut = vector[: row.dimensions]
    if row.normalize:
        cut = cut / cut.norm().clamp(min=1e-12)
    return cut.contiguous().numpy().astype("<f4").tobytes()
