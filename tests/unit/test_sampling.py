"""Which numbers a request samples with, and where its chance comes from."""

from collections import Counter

from modelengine.chats import ChatOptions
from modelengine_runtime.sampling import Sampling, resolve, uniform

SAMPLES = {"do_sample": True, "temperature": 0.7, "top_k": 20, "top_p": 0.8, "repetition_penalty": 1.1}


def test_a_model_that_recommends_nothing_is_greedy():
    assert resolve(ChatOptions(), {}, seed=1) == Sampling(seed=1)


def test_the_model_s_recommendation_holds_where_the_request_is_silent():
    assert resolve(ChatOptions(), SAMPLES, seed=1) == Sampling(0.7, 20, 0.8, repetition_penalty=1.1, seed=1)


def test_the_request_wins_over_the_recommendation():
    options = ChatOptions(temperature=0.2, top_k=-1, top_p=1.0, repetition_penalty=1.0, seed=9)
    assert resolve(options, SAMPLES, seed=1) == Sampling(0.2, seed=9)


def test_temperature_zero_is_greedy_though_the_model_recommends_sampling():
    assert resolve(ChatOptions(temperature=0), SAMPLES, seed=1).is_greedy


def test_a_temperature_makes_a_greedy_model_sample():
    assert resolve(ChatOptions(temperature=1.0), {"do_sample": False}, seed=1).temperature == 1.0


def test_what_only_the_request_can_ask_for_comes_from_it():
    options = ChatOptions(logit_bias={7: 1.0, 3: -2.5}, top_logprobs=0)
    assert resolve(options, {}, seed=1) == Sampling(seed=1, logit_bias=((3, -2.5), (7, 1.0)), top_logprobs=0)


def test_noise_is_a_function_of_seed_and_index():
    assert uniform(7, 3) == uniform(7, 3)
    assert len({uniform(7, 3), uniform(7, 4), uniform(8, 3)}) == 3


def test_noise_is_spread_evenly_over_zero_to_one():
    tenths = Counter(int(uniform(seed, index) * 10) for seed in range(50) for index in range(200))
    assert set(tenths) == set(range(10))
    assert all(800 < count < 1200 for count in tenths.values())


def test_a_temperature_too_low_for_float32_is_greedy():
    assert Sampling(temperature=1e-40, top_p=0.9).is_greedy
    assert not Sampling(temperature=0.01).is_greedy
