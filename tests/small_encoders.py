"""Small models with random weights that make vectors or scores, written to a folder as real ones are, with tokenizers.
What sentence-transformers lays beside them is in `sentence_files.py`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    BertTokenizerFast,
    ModernBertConfig,
    ModernBertModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3Model,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
    XLMRobertaModel,
)

SIZE = 32
KNOWN = "the a cat dog sat on mat in house river bank money what is where red blue green tree sea"
LETTERS = [*"abcdefghijklmnopqrstuvwxyz0123456789 .,?!'"]
CONFIG: Mapping[str, Any] = {
    "hidden_size": SIZE,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}


def bert(folder: Path, seed: int = 1) -> PreTrainedModel:
    """WordPiece, and positions for 64 tokens."""
    tokenizer = word_pieces(folder)
    return _save(folder, BertModel(BertConfig(vocab_size=len(tokenizer), **CONFIG)), seed)


def cross_encoder(folder: Path, seed: int = 1, labels: int = 1) -> PreTrainedModel:
    """A BERT with one score for a pair of texts, which it tells apart by their types."""
    tokenizer = word_pieces(folder)
    config = BertConfig(vocab_size=len(tokenizer), num_labels=labels, **CONFIG)
    return _save(folder, BertForSequenceClassification(config), seed)


def xlm_roberta(folder: Path, seed: int = 1, scores: bool = False) -> PreTrainedModel:
    """Its positions begin after the padding token's number, so that there are two fewer."""
    tokenizer = letters(folder, bos="<s>", eos="</s>", pad="<pad>")
    config = XLMRobertaConfig(
        vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, num_labels=1, type_vocab_size=1, **CONFIG
    )
    return _save(folder, (XLMRobertaForSequenceClassification if scores else XLMRobertaModel)(config), seed)


def modern_bert(folder: Path, seed: int = 1) -> PreTrainedModel:
    """Windows and rotated positions."""
    tokenizer = letters(folder, bos="[CLS]", eos="[SEP]", pad="[PAD]")
    config = ModernBertConfig(
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        local_attention=8,
        **{**CONFIG, "max_position_embeddings": 128},
    )
    return _save(folder, ModernBertModel(config), seed)


def qwen3(folder: Path, seed: int = 1) -> PreTrainedModel:
    """A model that writes, made into one that makes vectors: the last token's is the text's."""
    tokenizer = letters(folder, bos=None, eos="<|endoftext|>", pad="<|pad|>")
    config = Qwen3Config(
        vocab_size=len(tokenizer), head_dim=8, num_key_value_heads=2, pad_token_id=tokenizer.pad_token_id, **CONFIG
    )
    return _save(folder, Qwen3Model(config), seed)


def word_pieces(folder: Path) -> Any:
    folder.mkdir(parents=True, exist_ok=True)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*special, *KNOWN.split(), *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(dict.fromkeys(pieces)) + "\n")
    tokenizer = BertTokenizerFast(str(vocabulary), do_lower_case=True)
    tokenizer.save_pretrained(folder)
    return tokenizer


def letters(folder: Path, *, bos: str | None, eos: str, pad: str) -> PreTrainedTokenizerFast:
    """A token for each character, `bos` before a text and `eos` after it."""
    special = [token for token in (bos, pad, eos, "<unk>") if token is not None]
    vocabulary = {token: i for i, token in enumerate([*special, *LETTERS])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    begin = [] if bos is None else [bos]
    core.post_processor = processors.TemplateProcessing(
        single=[*begin, "$A", eos],
        pair=[*begin, "$A", eos, eos, "$B", eos],
        special_tokens=[(token, vocabulary[token]) for token in (*begin, eos)],
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token=bos, eos_token=eos, pad_token=pad, unk_token="<unk>"
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


def _save(folder: Path, model: PreTrainedModel, seed: int) -> PreTrainedModel:
    torch.manual_seed(seed)
    # Large enough that texts are told apart.
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    model = model.eval().float()
    model.save_pretrained(folder)
    return model
