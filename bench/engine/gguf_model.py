"""A Qwen2 checkpoint of transformers as a GGUF file in 16 bits, from which llama.cpp's quantizer makes narrower ones.

`python -m bench.engine.gguf_model FOLDER FILE`, with the package `gguf` of llama.cpp's sources on the path. Their own
converter knows only tokenizers that somebody published.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ARCHITECTURE = "qwen2"
WHOLE = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
IN_LAYERS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
FILE_TYPE_F16 = 1
ORDINARY_TOKEN = 1


def renamed(name: str) -> str:
    """What llama.cpp calls the tensor."""
    if name in WHOLE:
        return WHOLE[name]
    _, _, layer, rest = name.split(".", 3)
    module, _, kind = rest.rpartition(".")
    return f"blk.{layer}.{IN_LAYERS[module]}.{kind}"


def describe(writer: Any, config: dict[str, Any]) -> None:
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_file_type(FILE_TYPE_F16)


def add_vocabulary(writer: Any, tokenizer: dict[str, Any]) -> None:
    vocabulary: dict[str, int] = tokenizer["model"]["vocab"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(sorted(vocabulary, key=vocabulary.__getitem__))
    writer.add_token_types([ORDINARY_TOKEN] * len(vocabulary))
    writer.add_token_merges([" ".join(merge) for merge in tokenizer["model"]["merges"]])
    # It wants one; requests say that it ends nothing.
    writer.add_eos_token_id(0)
    writer.add_add_bos_token(False)


def main(folder: str, file: str) -> None:
    # Not a dependency of ours: see above.
    from gguf import GGUFWriter  # type: ignore[import-not-found]
    from safetensors.torch import load_file

    source = Path(folder)
    writer = GGUFWriter(file, ARCHITECTURE)
    describe(writer, json.loads((source / "config.json").read_text()))
    add_vocabulary(writer, json.loads((source / "tokenizer.json").read_text()))
    for name, tensor in load_file(source / "model.safetensors").items():
        wide = tensor.float() if tensor.dim() == 1 else tensor.half()
        writer.add_tensor(renamed(name), wide.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
