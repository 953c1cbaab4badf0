"""From a row of logits to a token, as one request's Sampling says. The noise comes from (seed, index) alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from modelengine_runtime.sampling import Sampling, uniform
from modelengine_runtime.sequence import ChatSequence


def sample_rows(logits: torch.Tensor, sequences: Sequence[ChatSequence]) -> list[int]:
    """The next token of each sequence, from its row of `logits` `[sequences, vocabulary]` float32, which may change.

    Raises FloatingPointError when a row's scores are not numbers.
    """
    # One pass and one wait for the device serve every greedy row.
    best = logits.max(dim=-1)
    scores, tokens = best.values.tolist(), best.indices.tolist()
    if not all(math.isfinite(score) for score in scores):
        raise FloatingPointError("the model's scores are not finite numbers")
    return [
        token if s.sampling.is_plain else sample(row, s.sampling, s.prompt, s.output)
        for s, token, row in zip(sequences, tokens, logits, strict=True)
    ]


def sample(logits: torch.Tensor, sampling: Sampling, prompt: Sequence[int], output: Sequence[int]) -> int:
    """The token after `prompt + output`. `logits` is one float32 row `[vocabulary]`, and may be changed.

    The order of the cuts is that of transformers: penalties, temperature, top-k, top-p, min-p.
    """
    if sampling.has_penalties:
        _penalize(logits, sampling, prompt, output)
    if sampling.is_greedy:
        return int(logits.argmax())
    tokens, probabilities = _candidates(logits / sampling.temperature, sampling)
    cumulated = probabilities.cumsum(0)
    mark = uniform(sampling.seed, len(output)) * float(cumulated[-1])
    chosen = int(torch.searchsorted(cumulated, torch.tensor(mark, dtype=cumulated.dtype), right=True))
    chosen = min(chosen, len(cumulated) - 1)
    return chosen if tokens is None else int(tokens[chosen])


def _penalize(logits: torch.Tensor, sampling: Sampling, prompt: Sequence[int], output: Sequence[int]) -> None:
    if sampling.repetition_penalty != 1.0:
        seen = torch.tensor(sorted({*prompt, *output}), device=logits.device)
        scores = logits[seen]
        penalty = sampling.repetition_penalty
        logits[seen] = torch.where(scores < 0, scores * penalty, scores / penalty)
    if output and (sampling.presence_penalty or sampling.frequency_penalty):
        counts = torch.bincount(torch.tensor(output, device=logits.device), minlength=len(logits))
        logits -= sampling.presence_penalty * (counts > 0) + sampling.frequency_penalty * counts


def _candidates(logits: torch.Tensor, sampling: Sampling) -> tuple[torch.Tensor | None, torch.Tensor]:
    """Tokens and their (unnormalised) probabilities after the cuts; tokens None means the whole vocabulary."""
    tokens: torch.Tensor | None = None
    if 0 < sampling.top_k < len(logits):
        logits, tokens = torch.topk(logits, sampling.top_k)
    elif sampling.top_p < 1.0:
        logits, tokens = torch.sort(logits, descending=True, stable=True)
    probabilities = torch.softmax(logits, dim=0, dtype=torch.float64)
    if sampling.top_p < 1.0:
        # The smallest head of the list that reaches top_p; its first token always stays.
        keep = int((probabilities.cumsum(0) - probabilities < sampling.top_p).sum())
        assert tokens is not None
        tokens, probabilities = tokens[:keep], probabilities[:keep]
    if sampling.min_p > 0.0:
        probabilities = probabilities.where(probabilities >= sampling.min_p * probabilities.max(), 0.0)
    return tokens, probabilities
