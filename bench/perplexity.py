"""What narrower weights cost in quality: the demo model's perplexity on held-out conversations, in every precision.

`python -m bench.perplexity`: plain transformers in float32 is the reference, the others are the engine's own runner.
Counted are the assistant's tokens, which is what the model has learnt to write; of the conversations neither the
values nor the wordings occurred in training, and each seed makes others.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from demo import evaluate, generate, tokenizer
from demo.batches import tokenise
from demo.split import Split
from transformers import AutoModelForCausalLM

from bench import runner
from bench.report import Table
from bench.stats import Sample
from modelengine_kernels.layout import BLOCK_TOKENS
from modelengine_runtime import loader
from modelengine_runtime.kv_cache import Span
from modelengine_runtime.runner import PackedRunner
from modelengine_runtime.source import DEMO_FOLDER

REFERENCE = "transformers, float32"
# The engine's dtype and quantization.
PRECISIONS = {
    "float32": ("float32", "none"),
    "bfloat16": ("bfloat16", "none"),
    "int8": ("auto", "int8"),
    "int4": ("auto", "int4"),
}
# So many tokens, or one conversation, go through the model at once.
PASS_TOKENS = 2048
NOTES = (
    "of the demo model, for each token that the assistant wrote in held-out conversations of every task, half English",
    "and half Chinese; each round has conversations of its own. More: than transformers, in the same round. The model",
    "knows most of it by heart; what is left to lose shows better in the loss, which is the perplexity's logarithm.",
)


@dataclass(frozen=True, slots=True)
class Text:
    """Tokens, and the places of those that count; each is predicted from all before it."""

    tokens: Sequence[int]
    counted: Sequence[int]


@dataclass(frozen=True, slots=True)
class Options:
    """`conversations` are for each task and round."""

    rounds: int
    conversations: int
    json: Path | None


def run(options: Options) -> list[Table]:
    rounds = [held_out(options.conversations, seed) for seed in range(1, 1 + options.rounds)]
    expected = [by_transformers(texts) for texts in rounds]
    table: dict[str, list[Sample]] = {REFERENCE: [{"perplexity": value} for value in expected]}
    for name in PRECISIONS:
        chosen = packed_runner(name)
        found = [by_runner(chosen, texts) for texts in rounds]
        table[name] = [
            {
                "perplexity": value,
                "perplexity more %": 100 * (value / reference - 1),
                "loss more %": 100 * (math.log(value) / math.log(reference) - 1),
            }
            for value, reference in zip(found, expected, strict=True)
        ]
    tokens = sum(len(text.counted) for texts in rounds for text in texts)
    return [Table("perplexity", (*NOTES, f"{tokens} tokens in {options.rounds} rounds"), table)]


def held_out(conversations: int, seed: int) -> list[Text]:
    """So many conversations of each task, in the order of their length."""
    plain = tokenizer.load(DEMO_FOLDER)
    texts = []
    for task in generate.MIX:
        for conversation in evaluate.held_out(task, conversations, Split.HELD_OUT, seed):
            tokens, written = tokenise(conversation, plain)
            texts.append(Text(tokens, [place for place, own in enumerate(written) if own]))
    return sorted(texts, key=lambda text: len(text.tokens))


@torch.inference_mode()
def by_transformers(texts: Sequence[Text]) -> float:
    """The perplexity of the texts, one after the other, in float32."""
    model: Any = AutoModelForCausalLM.from_pretrained(DEMO_FOLDER, dtype=torch.float32).eval()
    losses = []
    for text in texts:
        scores = model(input_ids=torch.tensor([text.tokens]), use_cache=False).logits[0]
        losses.append(_losses(scores[[place - 1 for place in text.counted]], text))
    return _perplexity(losses)


def packed_runner(precision: str) -> PackedRunner:
    dtype, quantization = PRECISIONS[precision]
    chosen = loader.load(DEMO_FOLDER, device="cpu", dtype=dtype, quantization=quantization).runner
    assert isinstance(chosen, PackedRunner)
    return chosen


def by_runner(chosen: PackedRunner, texts: Sequence[Text]) -> float:
    """The perplexity of the texts as the engine computes their scores: many in one pass, over the paged cache."""
    losses = []
    for group in _groups(texts):
        spans: list[Span] = []
        rows: list[int] = []
        used = 0
        for text in group:
            begin = spans[-1].end if spans else 0
            blocks = -(-len(text.tokens) // BLOCK_TOKENS)
            spans.append(Span(begin, begin + len(text.tokens), 0, range(used, used + blocks)))
            rows += [begin + place - 1 for place in text.counted]
            used += blocks
        chosen.reserve(used)
        tokens = [token for text in group for token in text.tokens]
        positions = [place for text in group for place in range(len(text.tokens))]
        scores = torch.split(chosen.forward(tokens, positions, spans, rows), [len(text.counted) for text in group])
        losses += [_losses(rows_of_text, text) for rows_of_text, text in zip(scores, group, strict=True)]
    return _perplexity(losses)


def _groups(texts: Sequence[Text]) -> list[list[Text]]:
    groups: list[list[Text]] = [[]]
    for text in texts:
        if groups[-1] and sum(len(other.tokens) for other in groups[-1]) + len(text.tokens) > PASS_TOKENS:
            groups.append([])
        groups[-1].append(text)
    return groups


def _losses(scores: torch.Tensor, text: Text) -> torch.Tensor:
    """Of the tokens that count, in nats; `scores` has a row for each."""
    expected = torch.tensor([text.tokens[place] for place in text.counted])
    return torch.nn.functional.cross_entropy(scores.double(), expected, reduction="none")


def _perplexity(losses: Sequence[torch.Tensor]) -> float:
    return math.exp(float(torch.cat([*losses]).mean()))


def parse(argv: Sequence[str] | None = None) -> Options:
    parser = argparse.ArgumentParser(prog="python -m bench.perplexity", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="each with other conversations (default 3)")
    parser.add_argument("--conversations", type=int, default=30, help="of each task in a round (default 30)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round's values there, too")
    return Options(**vars(parser.parse_args(argv)))


def main() -> int:
    chosen = parse()
    line = f"rounds    {chosen.rounds}; cells are min / median / max"
    return runner.run("bench", ["perplexity"], chosen, line, chosen.json)


if __name__ == "__main__":
    raise SystemExit(main())
