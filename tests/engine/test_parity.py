"""Greedy text equals transformers' own, token for token, alone and in company, on the fast path and on the slow one."""

import pytest

from modelengine_kernels import attention, library
from modelengine_runtime import packing, runner
from small_models import PACKED, SEQUENTIAL, answers, generate, packed, prompts, small_model

LENGTH = 24


@pytest.mark.parametrize("architecture", PACKED)
def test_the_fast_path_says_what_generate_says_alone_and_with_seven_others(architecture):
    model = small_model(architecture)
    expected = [generate(model, prompt, LENGTH) for prompt in prompts()]
    chosen = runner.choose(model)
    assert isinstance(chosen, runner.PackedRunner)
    assert answers(chosen, prompts(), LENGTH) == expected
    assert answers(chosen, prompts()[:1], LENGTH) == expected[:1]


@pytest.mark.parametrize("architecture", [*PACKED, "stablelm"])
def test_packed_weights_and_fused_steps_change_no_token(architecture, tmp_path):
    model = small_model(architecture)
    expected = [generate(model, prompt, LENGTH) for prompt in prompts()]
    read, chosen = packed(model, tmp_path)
    assert packing.packed_share(read) > 0
    assert answers(chosen, prompts(), LENGTH) == expected


@pytest.mark.parametrize("architecture", PACKED)
def test_without_the_kernels_torch_says_the_same(architecture, monkeypatch):
    monkeypatch.setattr(library, "load", lambda: None)
    monkeypatch.setattr(attention, "load", lambda: None)
    model = small_model(architecture)
    expected = [generate(model, prompt, LENGTH) for prompt in prompts()]
    chosen = runner.choose(model)
    assert isinstance(chosen, runner.PackedRunner)
    assert answers(chosen, prompts(), LENGTH) == expected


@pytest.mark.parametrize("architecture", SEQUENTIAL)
def test_a_model_that_the_fast_path_would_get_wrong_runs_the_slow_way_and_right(architecture, caplog):
    model = small_model(architecture)
    expected = [generate(model, prompt, LENGTH) for prompt in prompts()]
    chosen = runner.choose(model)
    assert isinstance(chosen, runner.SequentialRunner)
    assert "runs one request at a time" in caplog.text
    assert answers(chosen, prompts(), LENGTH) == expected


def test_a_model_that_fails_the_self_check_is_not_trusted_with_the_fast_path(monkeypatch):
    model = small_model("llama")
    own = runner.packed_logits
    monkeypatch.setattr(runner, "packed_logits", lambda model: own(model).roll(1, dims=0))
    assert isinstance(runner.choose(model), runner.SequentialRunner)


@pytest.mark.parametrize("architecture", ["qwen3", "mamba"])
def test_repeating_a_step_after_a_failure_changes_no_token(architecture):
    """The loop runs each chunk alone again when a step fails; tokens already taken in must not count twice."""
    model = small_model(architecture)
    expected = [generate(model, prompt, LENGTH) for prompt in prompts(3)]

    class Stuttering:
        def __init__(self, real):
            self.real, self.release, self.reserve = real, real.release, real.reserve

        def step(self, chunks):
            self.real.step(chunks)
            return [token for chunk in chunks for token in self.real.step([chunk])]

    assert answers(Stuttering(runner.choose(model)), prompts(3), LENGTH) == expected


ROTATIONS = {
    "llama": {"rope_type": "dynamic", "factor": 4.0},
    "phi3": {
        "rope_type": "longrope",
        "short_factor": [1.0] * 8,
        "long_factor": [4.0] * 8,
        "original_max_position_embeddings": 32,
    },
}


@pytest.mark.parametrize("architecture", ROTATIONS)
def test_positions_that_depend_on_the_longest_prompt_are_not_packed_with_it(architecture):
    more = {"max_position_embeddings": 32} if architecture == "llama" else {"original_max_position_embeddings": 32}
    model = small_model(architecture, rope_parameters={"rope_theta": 10000.0, **ROTATIONS[architecture]}, **more)
    short, long = [1, 12, 23, 34, 45], [(j * 7 + 1) % 300 for j in range(60)]
    expected = [generate(model, prompt, 12) for prompt in (short, long)]
    chosen = runner.choose(model)
    assert isinstance(chosen, runner.SequentialRunner)
    assert answers(chosen, [short, long], 12) == expected


def test_a_pass_that_fails_half_way_leaves_nothing_behind_on_the_slow_way():
    model = small_model("llama")
    expected = [generate(model, prompt, LENGTH) for prompt in prompts(1)]

    class Stumbling(runner.SequentialRunner):
        """Every second pass fails in the last layer, when the others have written the cache."""

        def step(self, chunks):
            hook = model.model.layers[-1].register_forward_pre_hook(lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                super().step(chunks)
            hook.remove()
            return super().step(chunks)

    assert answers(Stumbling(model), prompts(1), LENGTH) == expected
