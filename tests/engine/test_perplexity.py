"""Narrower weights cost the demo model next to nothing: its perplexity on conversations that it was not trained on."""

from __future__ import annotations

import pytest
from bench import perplexity

from modelengine_kernels import library

# In shares of the perplexity that plain transformers gives in float32. For int4 measured: up to 0.002.
BOUNDS = {"float32": 0.0001, "bfloat16": 0.002, "int8": 0.01, "int4": 0.01}
CONVERSATIONS = 6

pytestmark = pytest.mark.skipif(library.load() is None, reason="needs the compiled kernels")


@pytest.fixture(scope="module")
def texts() -> list[perplexity.Text]:
    return perplexity.held_out(CONVERSATIONS, seed=1)


@pytest.fixture(scope="module")
def reference(texts: list[perplexity.Text]) -> float:
    return perplexity.by_transformers(texts)


@pytest.mark.parametrize("precision", perplexity.PRECISIONS)
def test_the_perplexity_is_that_of_transformers_within_what_is_stated(
    precision: str, texts: list[perplexity.Text], reference: float
) -> None:
    found = perplexity.by_runner(perplexity.packed_runner(precision), texts)
    assert found == pytest.approx(reference, rel=BOUNDS[precision])


def test_the_measure_tells_precisions_apart(texts: list[perplexity.Text], reference: float) -> None:
    found = [perplexity.by_runner(perplexity.packed_runner(name), texts) for name in ("float32", "int8", "int4")]
    off = [abs(value / reference - 1) for value in found]
    assert off[0] < 1e-6 < min(off[1:])


def test_the_texts_are_more_than_a_few_tokens_and_the_same_each_time(texts: list[perplexity.Text]) -> None:
    assert sum(len(text.counted) for text in texts) > 1000
    assert texts == perplexity.held_out(CONVERSATIONS, seed=1)
    assert texts != perplexity.held_out(CONVERSATIONS, seed=2)
