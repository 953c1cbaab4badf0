"""The models that are measured: random weights in the shapes of Qwen1.5-0.5B and Qwen2.5-0.5B, in which nothing ends an
answer.

`python -m bench.engine.shapes NAME FOLDER` writes one, in a process that then gives its memory back.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.engine import vocabulary

SEED = 1
# What is said is what is asked: no words around the message, so that a prompt has as many tokens as it has words.
CHAT_TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
CONTEXT = 4096
EPSILON = 1e-6
ROPE_BASE = 1e6


@dataclass(frozen=True, slots=True)
class Shape:
    title: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    inner: int

    @property
    def weights(self) -> int:
        """Those that one token is multiplied with: all layers, and the head, which is the table of embeddings, too."""
        kv = self.hidden // self.heads * self.kv_heads
        layer = 2 * self.hidden * (self.hidden + kv) + 3 * self.hidden * self.inner
        return self.layers * layer + self.head

    @property
    def head(self) -> int:
        return self.hidden * vocabulary.SIZE


SHAPES = {
    "q15": Shape("Qwen1.5-0.5B", hidden=1024, layers=24, heads=16, kv_heads=16, inner=2816),
    "q25": Shape("Qwen2.5-0.5B", hidden=896, layers=24, heads=14, kv_heads=2, inner=4864),
}


def write_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    made = vocabulary.make(sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer = Tokenizer(models.BPE(dict(zip(made.tokens, range(len(made.tokens)), strict=True)), list(made.merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(folder)


def write_weights(shape: Shape, folder: Path) -> None:
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(SEED)
    config = Qwen2Config(
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        max_window_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        intermediate_size=shape.inner,
        vocab_size=vocabulary.SIZE,
        max_position_embeddings=CONTEXT,
        rms_norm_eps=EPSILON,
        rope_theta=ROPE_BASE,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    model = Qwen2ForCausalLM(config).to(torch.bfloat16)
    model.generation_config.do_sample = False
    model.save_pretrained(folder)


def main(name: str, folder: str) -> None:
    write_weights(SHAPES[name], Path(folder))
    write_tokenizer(Path(folder))
    print(json.dumps({"weights": SHAPES[name].weights}))


if __name__ == "__main__":
    main(*sys.argv[1:])
