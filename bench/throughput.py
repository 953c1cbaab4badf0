"""Tokens per second of concurrent chats: our engine over HTTP against plain transformers `generate()`.

Both are loaded once, from the same folder, in the same dtype, with as many threads, and take turns: while one is
measured the other waits. Tokens are those that each really gave, which a stopping model would make fewer.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench import load, processes, shapes, stats
from bench.options import Options
from bench.processes import Child
from bench.report import Table
from bench.stats import Sample
from bench.traffic import Load, Measured

CHATS = (1, 8, 32)
# One warm-up of each case, with which libraries make what they make on the first use of a shape.
WARM_UP_TOKENS = 4
NAME = "bench"
# Every chat has a prompt of its own, and some are a token longer than others, as in life.
PROMPT = "Tell me story {} about a small boat that sails far away over the wide blue sea."
PATH = "/engine/inference"


@dataclass(frozen=True, slots=True)
class Rivals:
    """Where the engine listens, the process with plain transformers, what both compute in, and a prompt's length."""

    port: int
    baseline: Child
    dtype: str
    device: str
    prompt_tokens: int


def run(options: Options) -> list[Table]:
    with tempfile.TemporaryDirectory(prefix="bench-model-") as folder:
        shapes.make(options.shape, Path(folder))
        return [compare(Path(folder), dtype, options) for dtype in options.dtypes or ("auto",)]


def compare(folder: Path, dtype: str, options: Options) -> Table:
    with rivals(folder, dtype, options.threads) as both:
        cases = {_label(n): partial(measure, both, n, options.tokens) for n in CHATS}
        for n in CHATS:
            measure(both, n, WARM_UP_TOKENS)
        rounds = stats.take_turns(cases, options.rounds)
    title = f"throughput: {options.shape}, {both.dtype} on {both.device}, threads: {options.threads}"
    return Table(title, notes(both.prompt_tokens, options.tokens), rounds)


def notes(prompt_tokens: int, new_tokens: int) -> list[str]:
    return [
        f"chats sent at the same time, prompts of about {prompt_tokens} tokens, greedy answers of {new_tokens} tokens, "
        "nothing ends them earlier;",
        "ours: streamed over HTTP, from the first request to the end of the last answer; transformers: generate() on a",
        "left-padded batch of as many, from messages to texts. Same weights, dtype, threads. Ratio: within a round.",
    ]


def _label(chats: int) -> str:
    return "1 chat" if chats == 1 else f"{chats} chats"


def measure(both: Rivals, chats: int, new_tokens: int) -> Sample:
    ours = load.run(the_load(both.port, chats, new_tokens))
    theirs = both.baseline.ask({"chats": [messages(i) for i in range(chats)], "new_tokens": new_tokens})
    return sample(ours, theirs["tokens"], theirs["seconds"])


def sample(ours: Measured, their_tokens: int, their_seconds: float) -> Sample:
    our_rate = stats.per(ours.tokens, ours.seconds)
    their_rate = stats.per(their_tokens, their_seconds)
    return {
        "ours tok/s": our_rate,
        "transformers tok/s": their_rate,
        "ours : transformers": stats.per(our_rate, their_rate),
        "ours first chunk p50 ms": ours.first_p50 * 1e3,
    }


def messages(number: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": PROMPT.format(number)}]


def chat(number: int, new_tokens: int) -> dict[str, Any]:
    options = {"max_new_tokens": new_tokens, "temperature": 0}
    return {"model": NAME, "messages": messages(number), "options": options, "stream": True}


def the_load(port: int, chats: int, new_tokens: int) -> Load:
    bodies = [json.dumps(chat(i, new_tokens)) for i in range(chats)]
    return Load(port, PATH, bodies, chats, requests=chats, expect='"completion_tokens":')


@contextmanager
def rivals(folder: Path, dtype: str, threads: int) -> Iterator[Rivals]:
    """Both processes with the model loaded. The second takes what the first chose to compute in."""
    with processes.engine(model_source=folder, model_name=NAME, dtype=dtype, threads=threads) as (_, port):
        info = processes.post(port, "/engine/info", {"model": NAME})
        answer = processes.post(port, PATH, {**chat(0, 1), "stream": False})
        argv = (*processes.PYTHON, "bench.generate", str(folder), info["dtype"], info["device"], str(threads))
        with processes.running(argv) as baseline:
            baseline.hear()
            yield Rivals(port, baseline, info["dtype"], info["device"], answer["prompt_length"])
