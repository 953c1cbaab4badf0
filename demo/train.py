"""Trains the demo model from nothing, on a CPU or a GPU.

    python -m demo.tokenizer
    python -m demo.train --tokens 24000000              to the end
    python -m demo.train --minutes 60                   the same, or until an hour is over
    python -m demo.train --minutes 60 --resume          goes on where the last checkpoint was written

The learning rate follows how much of the run is over, by tokens or by the clock, whichever is further: on a busy
machine the run still ends in time with the rate at zero. A run ended by its tokens can be repeated, one ended by the
clock only roughly.
"""

import argparse
import csv
import math
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from demo import batches, paths, tokenizer
from torch.nn import functional
from transformers import Qwen3Config, Qwen3ForCausalLM

SHAPE = {
    "vocab_size": tokenizer.VOCABULARY, "hidden_size": 192, "num_hidden_layers": 6, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 64, "intermediate_size": 512, "max_position_embeddings": batches.CONTEXT,
    "tie_word_embeddings": True, "bos_token_id": None, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
MATRIX_RATE, OTHER_RATE, WARM_UP, FLAT_UNTIL = 4e-3, 3e-3, 0.01, 0.35
TOKENS_PER_PART, PARTS_PER_STEP = 4096, 2
SAVE_EVERY_S, LOG_EVERY = 120, 100


@dataclass
class Progress:
    """How far a run has come; everything a resumed run has to know besides weights."""

    step: int = 0
    tokens: int = 0
    pools: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Goal:
    """Where a run ends."""

    tokens: int
    seconds: float

    def share(self, progress: Progress) -> float:
        return min(1.0, max(progress.tokens / self.tokens, progress.seconds / self.seconds))


def rate_factor(share: float) -> float:
    """Warm up, stay, then fall as a cosine to zero."""
    if share < FLAT_UNTIL:
        return min(1.0, (share + 1e-4) / WARM_UP)
    return 0.5 * (1 + math.cos(math.pi * (share - FLAT_UNTIL) / (1 - FLAT_UNTIL)))


class Trainer:
    """Model, optimisers and progress, and the one step that moves all three."""

    def __init__(self, seed: int, device: str) -> None:
        torch.manual_seed(seed)
        self.seed = seed
        self.device = device
        self.model: Any = Qwen3ForCausalLM(Qwen3Config(**SHAPE)).to(device)
        # For rows as short as ours, eager attention is the faster one on a CPU.
        self.model.set_attn_implementation("eager" if device == "cpu" else "sdpa")
        self.optimizers = _optimizers(self.model)
        self.progress = Progress()

    def step(self, parts: list[batches.Batch], factor: float) -> float:
        """One update from several small batches, which fit the processor's cache. Returns the loss."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * factor
        answered = sum(int((part.targets != batches.IGNORED).sum()) for part in parts)
        loss = sum(self._backward(part, answered) for part in parts)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self.progress.step += 1
        self.progress.tokens += sum(part.tokens for part in parts)
        self.progress.pools = parts[-1].pool
        return loss

    def _backward(self, batch: batches.Batch, answered: int) -> float:
        """Adds one batch's share to the gradients. Logits, a third of the work, are made where the assistant wrote."""
        ids, targets = batch.ids.to(self.device), batch.targets.to(self.device)
        wanted = targets != batches.IGNORED
        with torch.autocast(self.device, dtype=torch.bfloat16):
            hidden = self.model.model(input_ids=ids, use_cache=False).last_hidden_state
            logits = self.model.lm_head(hidden[wanted])
        loss = functional.cross_entropy(logits.float(), targets[wanted], reduction="sum") / answered
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    def save(self, path: Path) -> None:
        state = {
            "seed": self.seed,
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "progress": self.progress.__dict__,
        }
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(path)

    def load(self, path: Path) -> None:
        state = torch.load(path, map_location=self.device)
        self.seed = state["seed"]
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.progress = Progress(**state["progress"])


def _optimizers(model: torch.nn.Module) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for embeddings and norms."""
    inside = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    return [
        torch.optim.Muon([{"params": inside, "peak": MATRIX_RATE}], weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW([{"params": others, "peak": OTHER_RATE}], betas=(0.9, 0.98), weight_decay=0.0),
    ]


def run(trainer: Trainer, goal: Goal) -> None:
    """Steps until the goal, writing a checkpoint now and then and at the end."""
    started, saved = time.monotonic() - trainer.progress.seconds, time.monotonic()
    losses: list[float] = []
    progress = trainer.progress
    stream = batches.stream(trainer.seed, tokenizer.load(paths.WORK), TOKENS_PER_PART, progress.pools)
    while goal.share(progress) < 1.0:
        parts = list(islice(stream, PARTS_PER_STEP))
        losses.append(trainer.step(parts, rate_factor(goal.share(progress))))
        progress.seconds = time.monotonic() - started
        if len(losses) == LOG_EVERY:
            _log(progress, sum(losses) / LOG_EVERY)
            losses = []
        if time.monotonic() - saved > SAVE_EVERY_S:
            trainer.save(paths.CHECKPOINT)
            saved = time.monotonic()
    trainer.save(paths.CHECKPOINT)


def _log(progress: Progress, loss: float) -> None:
    """One line of the loss curve, which is kept in the repository."""
    print(f"step {progress.step} tokens {progress.tokens} seconds {progress.seconds:.0f} loss {loss:.4f}", flush=True)
    new = progress.step <= LOG_EVERY
    with paths.LOSSES.open("w" if new else "a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow(["step", "tokens", "seconds", "loss"])
        writer.writerow([progress.step, progress.tokens, round(progress.seconds), f"{loss:.4f}"])


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the demo model.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=24_000_000, help="tokens to train on in all")
    parser.add_argument("--minutes", type=float, default=1e6, help="end earlier after this many minutes in all")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    arguments = parser.parse_args()
    trainer = Trainer(arguments.seed, "cuda" if torch.cuda.is_available() else "cpu")
    if arguments.resume:
        trainer.load(paths.CHECKPOINT)
    run(trainer, Goal(arguments.tokens, arguments.minutes * 60))


if __name__ == "__main__":
    main()
