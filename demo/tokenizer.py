"""Trains the tokenizer on the generated conversations and writes it in the form transformers loads.

Byte-level BPE, so every text survives a round trip. Each digit and each Han character is cut off before merging: sums
and copies are then learned sign by sign, and a stream of Chinese moves one character at a time.

    python -m demo.tokenizer
"""

import json
from collections.abc import Iterator
from functools import cache
from itertools import islice
from pathlib import Path

from demo import generate, paths
from demo.conversation import segments
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

VOCABULARY = 4096
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
# Kept in decoded text, because whoever parses thoughts and tool calls looks for them.
MARKERS = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
# Where in an answer the thoughts and the calls are, in the words of transformers' response parser.
RESPONSE_TEMPLATE = {
    "defaults": {"role": "assistant"},
    "start_anchor": "<|im_start|>assistant\n",
    "fields": {
        "reasoning_content": {"open": "<think>", "close": "</think>", "content": "text"},
        "tool_calls": {
            "open": "<tool_call>",
            "close": "</tool_call>",
            "repeats": True,
            "content": "json",
            "transform": {"type": "function", "function": "{content}"},
        },
        "content": {"close": "<|im_end|>", "content": "text"},
    },
}
SAMPLES = 40_000
_HAN = r"\p{Han}"
_WORDS = r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def train(seed: int) -> Tokenizer:
    """A tokenizer of exactly `VOCABULARY` entries."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(_HAN), "isolated"),
        pre_tokenizers.Split(Regex(_WORDS), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        min_frequency=2,
        max_token_length=16,
        special_tokens=[*SPECIAL, *MARKERS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(seed), trainer)
    tokenizer.add_tokens([AddedToken(marker, normalized=False, special=False) for marker in MARKERS])
    return tokenizer


def save(tokenizer: Tokenizer) -> None:
    """Writes tokenizer.json and its settings to the work folder; the export ships them with weights that fit."""
    document = json.loads(tokenizer.to_str())
    for token in document["added_tokens"]:
        token["special"] = token["content"] in SPECIAL
    _write("tokenizer.json", document)
    _write("tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 1024,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "clean_up_tokenization_spaces": False,
        "response_template": RESPONSE_TEMPLATE,
    })  # fmt: skip


@cache
def load(folder: Path) -> Tokenizer:
    """A tokenizer without the weight of transformers."""
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def _texts(seed: int) -> Iterator[str]:
    for conversation in islice(generate.stream(seed), SAMPLES):
        yield from (text for text, _ in segments(conversation))


def _write(name: str, document: object) -> None:
    paths.WORK.mkdir(exist_ok=True)
    (paths.WORK / name).write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    tokenizer = train(seed=1)
    if tokenizer.get_vocab_size() != VOCABULARY:
        raise SystemExit(f"expected {VOCABULARY} tokens, got {tokenizer.get_vocab_size()}")
    save(tokenizer)


if __name__ == "__main__":
    main()
