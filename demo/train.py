"""Trains the demo model from nothing, on a CPU or a GPU.

    python -m demo.train --tokens 24000000 --minutes 70
    python -m demo.train --resume --minutes 20          goes on where the last checkpoint was written

The learning rate follows how much of the run is over, by tokens or by the clock, whichever is further: on a busy machine the run
still ends in time with the rate at zero. A run that the clock ended is not repeatable bit by bit; one that the tokens ended is.
"""

import argparse
import csv
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import Qwen3Config, Qwen3ForCausalLM

from demo import batches, paths, tokenizer

SHAPE = {
    "vocab_size": tokenizer.VOCABULARY, "hidden_size": 192, "num_hidden_layers": 6, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 64, "intermediate_size": 512, "max_position_embeddings": batches.CONTEXT,
    "tie_word_embeddings": True, "bos_token_id": None, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
MATRIX_RATE, OTHER_RATE, WARM_UP, FLAT_UNTIL = 4e-3, 3e-3, 0.01, 0.35
SAVE_EVERY_S, LOG_EVERY = 120, 50


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
        self.optimizers = _optimizers(self.model)
        self.progress = Progress()

    def step(self, batch: batches.Batch, factor: float) -> Tensor:
        """One update; returns the loss without waiting for it."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * factor
        loss = self._loss(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self.progress.step += 1
        self.progress.tokens += batch.tokens
        return loss.detach()

    def _loss(self, batch: batches.Batch) -> Tensor:
        """Logits are made only where the assistant wrote: they are a third of the work."""
        ids, targets = batch.ids.to(self.device), batch.targets.to(self.device)
        wanted = targets != batches.IGNORED
        with torch.autocast(self.device, dtype=torch.bfloat16):
            hidden = self.model.model(input_ids=ids, use_cache=False).last_hidden_state
            logits = self.model.lm_head(hidden[wanted])
        return functional.cross_entropy(logits.float(), targets[wanted])

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


def run(trainer: Trainer, goal: Goal, tokens_per_batch: int) -> None:
    """Steps until the goal, writing a checkpoint now and then and at the end."""
    paths.WORK.mkdir(exist_ok=True)
    started, saved = time.monotonic() - trainer.progress.seconds, time.monotonic()
    losses: list[Tensor] = []
    progress = trainer.progress
    for batch in batches.stream(trainer.seed, tokenizer.load(), tokens_per_batch, progress.pools):
        progress.pools = batch.pool
        progress.seconds = time.monotonic() - started
        share = goal.share(progress)
        losses.append(trainer.step(batch, rate_factor(share)))
        if len(losses) == LOG_EVERY or share == 1.0:
            _log(progress, float(torch.stack(losses).mean()))
            losses = []
        if time.monotonic() - saved > SAVE_EVERY_S or share == 1.0:
            trainer.save(paths.CHECKPOINT)
            saved = time.monotonic()
        if share == 1.0:
            return


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
    parser.add_argument("--batch", type=int, default=8192, help="tokens per step")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    arguments = parser.parse_args()
    trainer = Trainer(arguments.seed, "cuda" if torch.cuda.is_available() else "cpu")
    if arguments.resume:
        trainer.load(paths.CHECKPOINT)
    run(trainer, Goal(arguments.tokens, arguments.minutes * 60), arguments.batch)


if __name__ == "__main__":
    main()
