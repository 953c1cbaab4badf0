"""From rows of scores to tokens, each as its request's Sampling says. The noise comes from (seed, index) alone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import torch

from modelengine_kernels import sampling as kernel
from modelengine_kernels.sampling import NO_TOKEN, Draw
from modelengine_runtime.sampling import Guide, Likelihood, Sampling, uniform

GREEDY = Sampling()


@dataclass(frozen=True, slots=True)
class Asking:
    """Who wants a row's token: how it is drawn, what there is so far, what may come next, and where a Likelihood goes,
    by the token's place in the answer."""

    sampling: Sampling
    prompt: Sequence[int]
    output: Sequence[int]
    guide: Guide | None = None
    likelihoods: dict[int, Likelihood] = field(default_factory=dict)


def sample(scores: torch.Tensor, asking: Sequence[Asking]) -> list[int]:
    """The next token of each, from its row of `scores` `[asking, vocabulary]` float32, which may change.

    The order of the cuts is that of transformers: penalties, temperature, top-k, top-p, min-p; what is added to scores
    is added after the penalties. Raises FloatingPointError when a row's scores are not numbers, ValueError where a
    guide allows nothing.
    """
    logprobs: dict[int, torch.Tensor] = {}
    for i, each in enumerate(asking):
        if each.sampling.top_logprobs is not None:
            logprobs[i] = torch.log_softmax(scores[i], dim=0)
        if each.sampling.has_penalties:
            penalize(scores[i], each.sampling, each.prompt, each.output)
        if each.sampling.logit_bias:
            favour(scores[i], each.sampling.logit_bias)
        if each.guide is not None:
            forbid(scores[i], each.guide.mask())
    tokens = _sample_here(scores, asking) if scores.device.type == "cpu" else _sample_there(scores, asking)
    if NO_TOKEN in tokens:
        raise FloatingPointError("the model's scores are not finite numbers")
    for i, of_row in logprobs.items():
        asking[i].likelihoods[len(asking[i].output)] = _likelihood(of_row, tokens[i], asking[i].sampling)
    return tokens


def penalize(scores: torch.Tensor, sampling: Sampling, prompt: Sequence[int], output: Sequence[int]) -> None:
    """Changes the scores `[vocabulary]` of tokens that were there before."""
    if sampling.repetition_penalty != 1.0:
        seen = torch.tensor(sorted({*prompt, *output}), device=scores.device)
        before = scores[seen]
        penalty = sampling.repetition_penalty
        scores[seen] = torch.where(before < 0, before * penalty, before / penalty)
    if output and (sampling.presence_penalty or sampling.frequency_penalty):
        counts = Counter(output)
        repeated = torch.tensor([*counts], device=scores.device)
        times = torch.tensor([*counts.values()], device=scores.device)
        scores[repeated] -= sampling.presence_penalty + sampling.frequency_penalty * times


def favour(scores: torch.Tensor, bias: Sequence[tuple[int, float]]) -> None:
    """Adds to the scores `[vocabulary]` of these tokens, each of which stands there once."""
    tokens, added = zip(*bias, strict=True)
    scores[torch.tensor(tokens, device=scores.device)] += torch.tensor(added, dtype=scores.dtype, device=scores.device)


def forbid(scores: torch.Tensor, mask: bytearray) -> None:
    """Leaves of the scores `[vocabulary]` those whose bits are set in the mask (`Guide.mask`)."""
    if mask.count(0) == len(mask):
        raise ValueError("nothing may come next in this answer")
    penalties = _penalties(scores.device)
    words = torch.frombuffer(mask, dtype=torch.uint8).to(scores.device)
    added = torch.index_select(penalties, 0, words.int()).flatten()[: len(scores)]
    scores[: len(added)] += added
    # Tokens that the mask does not know may not come.
    scores[len(added) :] = float("-inf")


@cache
def _penalties(device: torch.device) -> torch.Tensor:
    """For each byte of a mask, what is added to the scores of its eight tokens. A large vocabulary is looked up and
    added to in a tenth of the time that it takes to shift bits and to fill."""
    bits = torch.arange(256)[:, None] >> torch.arange(8) & 1
    return torch.where(bits == 1, 0.0, float("-inf")).to(device)


def _likelihood(logprobs: torch.Tensor, token: int, sampling: Sampling) -> Likelihood:
    assert sampling.top_logprobs is not None
    values, tokens = logprobs.topk(min(sampling.top_logprobs, len(logprobs)))
    return Likelihood(float(logprobs[token]), tuple(zip(tokens.tolist(), values.tolist(), strict=True)))


def _draw(asking: Asking) -> Draw:
    sampling = asking.sampling
    if sampling.is_greedy:
        return Draw(temperature=0.0, top_p=1.0)
    return Draw(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        min_p=sampling.min_p,
        top_k=sampling.top_k,
        uniform=uniform(sampling.seed, len(asking.output)),
    )


def _sample_there(scores: torch.Tensor, asking: Sequence[Asking]) -> list[int]:
    """On a GPU the best token is found where the scores are; whoever draws has his row brought here."""
    tokens = _sample_by_torch(scores, [Asking(GREEDY, (), ())] * len(asking))
    drawing = [i for i, each in enumerate(asking) if not each.sampling.is_greedy and tokens[i] != NO_TOKEN]
    if drawing:
        rows = scores[drawing].cpu() if len(drawing) < len(asking) else scores.cpu()
        for i, token in zip(drawing, _sample_here(rows, [asking[i] for i in drawing]), strict=True):
            tokens[i] = token
    return tokens


def _sample_here(scores: torch.Tensor, asking: Sequence[Asking]) -> list[int]:
    if kernel.is_supported(scores):
        return kernel.sample(scores, [_draw(each) for each in asking])
    return _sample_by_torch(scores, asking)


def _sample_by_torch(scores: torch.Tensor, asking: Sequence[Asking]) -> list[int]:
    # One pass and one wait for the device serve every greedy row.
    best = scores.max(dim=-1)
    values, tokens = best.values.tolist(), best.indices.tolist()
    return [
        NO_TOKEN if not math.isfinite(value) else token if each.sampling.is_greedy else _draw_by_torch(row, each)
        for each, value, token, row in zip(asking, values, tokens, scores, strict=True)
    ]


def _draw_by_torch(scores: torch.Tensor, asking: Asking) -> int:
    tokens, probabilities = _candidates(scores / asking.sampling.temperature, asking.sampling)
    cumulated = probabilities.cumsum(0)
    mark = uniform(asking.sampling.seed, len(asking.output)) * float(cumulated[-1])
    chosen = int(torch.searchsorted(cumulated, torch.tensor(mark, dtype=cumulated.dtype), right=True))
    chosen = min(chosen, len(cumulated) - 1)
    return chosen if tokens is None else int(tokens[chosen])


def _candidates(scores: torch.Tensor, sampling: Sampling) -> tuple[torch.Tensor | None, torch.Tensor]:
    """Tokens and their (unnormalised) probabilities after the cuts; tokens None means the whole vocabulary."""
    tokens: torch.Tensor | None = None
    if 0 < sampling.top_k < len(scores):
        scores, tokens = torch.topk(scores, sampling.top_k)
    elif sampling.top_p < 1.0:
        scores, tokens = torch.sort(scores, descending=True, stable=True)
    probabilities = torch.softmax(scores, dim=0, dtype=torch.float64)
    if sampling.top_p < 1.0:
        # The smallest head of the list that reaches top_p; its first token always stays.
        keep = int((probabilities.cumsum(0) - probabilities < sampling.top_p).sum())
        assert tokens is not None
        tokens, probabilities = tokens[:keep], probabilities[:keep]
    if sampling.min_p > 0.0:
        probabilities = probabilities.where(probabilities >= sampling.min_p * probabilities.max(), 0.0)
    return tokens, probabilities
