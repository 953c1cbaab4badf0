"""How one request picks its tokens: plain numbers, no torch.

`resolve` joins what the request asks with what the model's generation config recommends; `uniform` is the only source
of chance, a function of (seed, index) alone, so that an answer does not depend on what runs beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from modelengine.chats import ChatOptions

_MASK = (1 << 64) - 1
# Scores divided by less than this leave the range of float32; sampling is the best token long before.
LOWEST_TEMPERATURE = 1e-5


class Guide(Protocol):
    """Says what may come next in one answer, as a grammar does. Only one thread asks it."""

    def mask(self) -> bytearray:
        """A bit for each token of the vocabulary, 32 to a word of 4 bytes, the lowest first: set where it may be the
        next. Asked again before `accept`, it says the same."""
        ...

    def accept(self, token: int) -> None:
        """The token is the answer's next."""
        ...


@dataclass(frozen=True, slots=True)
class Likelihood:
    """Natural logarithms of what the model itself thought likely, before anything of Sampling: of the token that was
    taken, and of the most likely ones, those first."""

    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Sampling:
    """`temperature` 0 is greedy; `top_k` 0, `top_p` 1 and `min_p` 0 cut nothing; penalties 1, 0, 0 change nothing.
    `logit_bias` has tokens and what is added to their scores.
    `top_logprobs` is how many alternatives a Likelihood has; None asks for no Likelihood."""

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int = 0
    logit_bias: tuple[tuple[int, float], ...] = ()
    top_logprobs: int | None = None

    @property
    def is_greedy(self) -> bool:
        return self.temperature < LOWEST_TEMPERATURE

    @property
    def has_penalties(self) -> bool:
        return (self.repetition_penalty, self.presence_penalty, self.frequency_penalty) != (1.0, 0.0, 0.0)


def resolve(options: ChatOptions, recommended: Mapping[str, Any], seed: int) -> Sampling:
    """The request's options over the model's recommendation (`do_sample`, `temperature`, ... as in its config file).

    A model that recommends no sampling is greedy unless the request gives a temperature. `seed` is used where the
    request has none.
    """

    def pick(name: str, default: float) -> float:
        asked = getattr(options, name)
        if asked is not None:
            return float(asked)
        given = recommended.get(name)
        return default if given is None else float(given)

    samples = bool(recommended.get("do_sample", False))
    return Sampling(
        temperature=pick("temperature", 1.0) if samples or options.temperature is not None else 0.0,
        top_k=max(0, int(pick("top_k", 0))),
        top_p=pick("top_p", 1.0),
        min_p=pick("min_p", 0.0),
        repetition_penalty=pick("repetition_penalty", 1.0),
        presence_penalty=pick("presence_penalty", 0.0),
        frequency_penalty=pick("frequency_penalty", 0.0),
        seed=seed if options.seed is None else options.seed,
        logit_bias=tuple(sorted((options.logit_bias or {}).items())),
        top_logprobs=options.top_logprobs,
    )


def uniform(seed: int, index: int) -> float:
    """A number in [0, 1) for token `index` of the answer with this seed (the SplitMix64 finaliser, twice)."""
    return (_mix(_mix(seed) + index) >> 11) / (1 << 53)


def _mix(value: int) -> int:
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)
