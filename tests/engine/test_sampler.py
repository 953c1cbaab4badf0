"""Each option changes which token is taken as documented; equal seeds take equal tokens whatever runs beside them."""

import random
from collections import Counter

import pytest
import torch
from transformers.generation import logits_process

from modelengine import errors
from modelengine_kernels import sampling as kernel
from modelengine_runtime import paged_attention, runner, sampler
from modelengine_runtime.sampler import Asking
from modelengine_runtime.sampling import Sampling
from small_models import answers, prompts, small_model

LOGITS = torch.tensor([2.0, 1.0, 0.5, 0.0, -1.0, 3.0])
DRAWS = 4000


@pytest.fixture(params=["kernel", "torch"], autouse=True)
def by(request, monkeypatch):
    """Both ways to draw: the compiled one, and torch's where there is none."""
    if request.param == "torch":
        monkeypatch.setattr(kernel, "is_supported", lambda scores: False)
    return request.param


def sample(scores, sampling, prompt, output):
    return sampler.sample(scores.clone()[None], [Asking(sampling, prompt, output)])[0]


def drawn(sampling, prompt=(), output=(), logits=LOGITS):
    """How often each token is taken, over many seeds."""
    counts = Counter(
        sample(logits, Sampling(**{**fields(sampling), "seed": seed}), prompt, output) for seed in range(DRAWS)
    )
    return {token: count / DRAWS for token, count in sorted(counts.items())}


def with_our_attention(model):
    """As `runner.choose` leaves it."""
    model.set_attn_implementation(paged_attention.NAME)
    return model


def fields(sampling):
    return {name: getattr(sampling, name) for name in sampling.__dataclass_fields__}


def close(shares, expected):
    for token, probability in enumerate(expected.tolist()):
        assert shares.get(token, 0.0) == pytest.approx(probability, abs=0.03 if probability else 0.0)


def test_greedy_takes_the_best():
    assert sample(LOGITS, Sampling(), (), ()) == 5


def test_what_is_added_to_scores_changes_which_token_is_taken_and_its_likelihood_not():
    biased = Sampling(logit_bias=((0, 1.5), (5, -100.0)), top_logprobs=0)
    asked = Asking(biased, (), ())
    scores = LOGITS.repeat(2, 1)
    assert sampler.sample(scores, [asked, Asking(Sampling(), (), ())]) == [0, 5]
    assert asked.likelihoods[0].logprob == pytest.approx(float(torch.log_softmax(LOGITS, 0)[0]))
    close(drawn(Sampling(temperature=1.0, logit_bias=((5, -100.0),))), torch.softmax(LOGITS[:5], 0))


def test_temperature_one_draws_the_model_s_own_distribution():
    close(drawn(Sampling(temperature=1.0)), torch.softmax(LOGITS, 0))


def test_a_low_temperature_sharpens_it():
    close(drawn(Sampling(temperature=0.5)), torch.softmax(LOGITS / 0.5, 0))


@pytest.mark.parametrize(
    ("sampling", "warper"),
    [
        (Sampling(temperature=1.0, top_k=2), logits_process.TopKLogitsWarper(2)),
        (Sampling(temperature=1.0, top_p=0.7), logits_process.TopPLogitsWarper(0.7)),
        (Sampling(temperature=1.0, min_p=0.2), logits_process.MinPLogitsWarper(0.2)),
        (Sampling(temperature=1.0, top_p=0.0001), logits_process.TopPLogitsWarper(0.0001)),
    ],
    ids=["top_k", "top_p", "min_p", "tiny top_p keeps the best"],
)
def test_a_cut_leaves_what_transformers_leaves(sampling, warper):
    close(drawn(sampling), torch.softmax(warper(None, LOGITS[None].clone())[0], 0))


def test_cuts_follow_each_other_as_in_transformers():
    scores = LOGITS[None] / 1.5
    for warper in (
        logits_process.TopKLogitsWarper(4),
        logits_process.TopPLogitsWarper(0.8),
        logits_process.MinPLogitsWarper(0.3),
    ):
        scores = warper(None, scores)
    close(drawn(Sampling(temperature=1.5, top_k=4, top_p=0.8, min_p=0.3)), torch.softmax(scores[0], 0))


def test_the_repetition_penalty_is_that_of_transformers_and_sees_the_prompt():
    penalized = logits_process.RepetitionPenaltyLogitsProcessor(4.0)(torch.tensor([[5, 4]]), LOGITS[None].clone())
    close(
        drawn(Sampling(temperature=1.0, repetition_penalty=4.0), prompt=[5], output=[4]), torch.softmax(penalized[0], 0)
    )


def test_the_presence_penalty_counts_a_token_of_the_answer_once():
    expected = LOGITS - torch.tensor([0, 0, 0, 0, 0, 1.5])
    sampling = Sampling(temperature=1.0, presence_penalty=1.5)
    close(drawn(sampling, prompt=[0], output=[5, 5]), torch.softmax(expected, 0))


def test_the_frequency_penalty_counts_every_time():
    expected = LOGITS - torch.tensor([0, 0, 0, 0, 0, 3.0])
    close(
        drawn(Sampling(temperature=1.0, frequency_penalty=1.5), prompt=[0], output=[5, 5]), torch.softmax(expected, 0)
    )


def test_a_strong_penalty_makes_greedy_take_another_token():
    assert sample(LOGITS, Sampling(repetition_penalty=10.0), [5], ()) == 0


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_scores_that_are_no_numbers_are_an_error_not_a_token(bad):
    model = small_model("llama")
    model.lm_head.weight.data[7] = bad
    with pytest.raises(errors.RequestFailed, match="scores are not finite numbers"):
        answers(runner.PackedRunner(with_our_attention(model)), prompts(2), 4)


def test_different_seeds_give_different_answers():
    chosen = runner.choose(small_model("qwen3"))
    same = [prompts()[0]] * 4
    seeded = answers(chosen, same, 20, [Sampling(temperature=1.0, seed=seed) for seed in (1, 1, 2, 3)])
    assert seeded[0] == seeded[1]
    assert len({tuple(answer) for answer in seeded}) == 3


OPTIONS = {
    "nothing cut": {},
    "top-k": {"top_k": 40},
    "more than there are pieces": {"top_k": 5000},
    "top-p": {"top_p": 0.9},
    "nearly all": {"top_p": 0.9999},
    "min-p": {"min_p": 0.05},
    "all cuts": {"top_k": 50, "top_p": 0.8, "min_p": 0.02},
    "greedy": {"temperature": 0.0},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("vocabulary", [7, 300, 20_011])
def test_the_kernel_draws_what_torch_draws_and_rows_do_not_see_each_other(vocabulary, options, monkeypatch, by):
    torch.manual_seed(8)
    chance = random.Random(9)
    scores = torch.randn(16, vocabulary) * 4
    # Some that a mask forbids, and, but for torch's top-k, which may put them in any order, some that are equal.
    scores[:, ::5] = float("-inf")
    if "top_k" not in options:
        scores[3, 1:4] = scores[3].max()
    asking = [
        Asking(Sampling(**{"temperature": chance.choice([0.2, 0.7, 1.0, 3.0]), "seed": seed, **options}), [], [])
        for seed in range(16)
    ]
    together = sampler.sample(scores.clone(), asking)
    assert together == [sampler.sample(scores[i : i + 1].clone(), [asking[i]])[0] for i in range(16)]
    assert not any(token % 5 == 0 for token in together)
    if by == "kernel":
        monkeypatch.setattr(kernel, "is_supported", lambda scores: False)
        assert sampler.sample(scores.clone(), asking) == together


def mask_of(*tokens: int, vocabulary: int = 10) -> bytearray:
    mask = bytearray(4 * -(-vocabulary // 32))
    for token in tokens:
        mask[token // 8] |= 1 << token % 8
    return mask


class Guided:
    def __init__(self, *allowed: int) -> None:
        self.allowed = allowed
        self.accepted: list[int] = []

    def mask(self) -> bytearray:
        return mask_of(*self.allowed)

    def accept(self, token: int) -> None:
        self.accepted.append(token)


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_only_what_a_guide_allows_is_taken(temperature: float) -> None:
    scores = torch.arange(10.0).repeat(40, 1)
    asking = [Asking(Sampling(temperature=temperature, seed=i), (), (), Guided(2, 9, 3)) for i in range(39)]
    tokens = sampler.sample(scores, [*asking, Asking(Sampling(), (), (), Guided(1))])
    assert set(tokens[:39]) <= {2, 3, 9}
    assert tokens[39] == 1


def test_a_guide_that_allows_nothing_is_an_error_that_says_so() -> None:
    with pytest.raises(ValueError, match="nothing may come next"):
        sampler.sample(torch.zeros(1, 10), [Asking(Sampling(), (), (), Guided())])


def test_tokens_that_a_mask_does_not_know_do_not_come() -> None:
    scores = torch.arange(40.0)[None]
    [token] = sampler.sample(scores, [Asking(Sampling(), (), (), Guided(5))])
    assert token == 5


def test_likelihoods_are_the_models_own_whatever_is_cut_or_penalized() -> None:
    scores = torch.tensor([[1.0, 3.0, 2.0, 0.0], [1.0, 3.0, 2.0, 0.0]])
    expected = torch.log_softmax(scores[0], 0)
    sampling = Sampling(repetition_penalty=9.0, top_logprobs=2)
    asked = Asking(sampling, (1,), (3, 3), Guided(0, 2))
    [token, _] = sampler.sample(scores, [asked, Asking(Sampling(), (), ())])
    assert token == 2
    found = asked.likelihoods[2]
    assert found.logprob == pytest.approx(float(expected[2]))
    assert [each for each, _ in found.top] == [1, 2]
    assert [value for _, value in found.top] == pytest.approx([float(expected[1]), float(expected[2])])
