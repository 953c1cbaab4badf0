"""Plain transformers on the same weights: `generate()` over a left-padded batch, as people without an engine do it.

`python -m bench.generate FOLDER DTYPE DEVICE THREADS` loads the model once, says so, and then answers one line of
JSON (chats and a number of tokens) with another (tokens and seconds), until its stdin ends.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Collection, Sequence
from typing import Any


def real_tokens(answers: Sequence[Sequence[int]], ends: Collection[int]) -> int:
    """The tokens of all answers up to each one's end, which is not counted, as our engine does not count it either."""
    return sum(next((i for i, token in enumerate(answer) if token in ends), len(answer)) for answer in answers)


class Baseline:
    def __init__(self, folder: str, dtype: str, device: str, threads: int) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        torch.set_num_threads(threads)
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, padding_side="left")
        self._model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).to(device).eval()
        self._inference_mode = torch.inference_mode
        ends = self._model.generation_config.eos_token_id
        self._ends = {ends} if isinstance(ends, int) else set(ends or ())

    def answer(self, chats: Sequence[Sequence[dict[str, str]]], new_tokens: int) -> dict[str, float]:
        """From messages to texts, which is what our engine does with them, too."""
        started = time.perf_counter()
        with self._inference_mode():
            inputs = self._tokenizer.apply_chat_template(
                list(chats), add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
            )
            inputs = inputs.to(self._model.device)
            output = self._model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                max_new_tokens=new_tokens,
                do_sample=False,
                pad_token_id=0,
            )
        answers = output[:, inputs["input_ids"].shape[1] :].tolist()
        self._tokenizer.batch_decode(answers, skip_special_tokens=True)
        return {"tokens": real_tokens(answers, self._ends), "seconds": time.perf_counter() - started}


def main(folder: str, dtype: str, device: str, threads: str) -> None:
    baseline = Baseline(folder, dtype, device, int(threads))
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        question = json.loads(line)
        print(json.dumps(baseline.answer(question["chats"], question["new_tokens"])), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
