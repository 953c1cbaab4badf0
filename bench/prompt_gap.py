"""A prompt of 4,000 tokens arrives among 8 streams: how long do these stand still, in steps as they had before?

`python -m bench.prompt_gap [--model FOLDER] [--rounds N]`: the real engine process over HTTP. Each round opens the
streams, lets them run, and then sends a prompt that begins like none before, so that nothing of it is cached.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from bench import processes, runner, shapes, stats
from bench.processes import LOOPBACK, BenchFailed
from bench.report import Table
from bench.stats import Sample
from modelengine_runtime.source import DEMO_FOLDER

NAME = "bench"
STREAMS = 8
PROMPT_TOKENS = 4000
CONTEXT = 6144
# So many steps are ordinary ones, before the prompt comes.
ORDINARY_STEPS = 150
# And so many when it has been answered: by then the streams' own texts are longer, and so are their steps.
STEPS_AFTER = 40
# Far more than the prompt's time needs; the streams are left when it is over.
STREAM_TOKENS = 2000
TRIAL_DIGITS = (100, 300)
TIMEOUT_S = 600.0
# The promise, in ordinary steps.
PROMISE = 3.0


@dataclass(frozen=True, slots=True)
class Options:
    model: Path | None
    rounds: int
    threads: int
    quantization: str
    json: Path | None


@dataclass(frozen=True, slots=True)
class Arrival:
    """A part that brought one token, `gap_s` after the one before it in the same stream."""

    at: float
    gap_s: float


@dataclass(slots=True)
class Stream:
    """What came of one answer. Parts that bring several tokens, a character in pieces, tell nothing of a step."""

    arrivals: list[Arrival] = field(default_factory=list)
    tokens: int = 0
    last_at: float = 0.0

    def came(self, tokens: int, at: float) -> None:
        """The answer has so many tokens now."""
        if self.tokens and tokens == self.tokens + 1:
            self.arrivals.append(Arrival(at, at - self.last_at))
        self.tokens, self.last_at = tokens, at


def sample(streams: Sequence[Stream], sent: float, answered: float, prompt_tokens: int) -> Sample:
    """Of one round, from the times at which the prompt was sent and its answer began."""
    arrivals = [arrival for stream in streams for arrival in stream.arrivals]
    before = [a.gap_s for a in arrivals if a.at < sent]
    during = [a.gap_s for a in arrivals if sent <= a.at <= answered]
    after = [a.gap_s for a in arrivals if a.at > answered]
    if not before or not during or not after:
        raise BenchFailed("the streams did not run when the prompt came")
    ordinary_s = stats.spread(before).median
    return {
        "ordinary step ms": ordinary_s * 1e3,
        "largest gap before, steps": max(before) / ordinary_s,
        "median gap meanwhile, steps": stats.spread(during).median / ordinary_s,
        "largest gap meanwhile, steps": max(during) / ordinary_s,
        "in steps of afterwards": max(during) / stats.spread(after).median,
        "largest gap meanwhile ms": max(during) * 1e3,
        "prompt tokens": prompt_tokens,
        "first token of it s": answered - sent,
    }


def run(options: Options) -> list[Table]:
    with tempfile.TemporaryDirectory(prefix="bench-model-") as folder:
        make(options.model or DEMO_FOLDER, Path(folder))
        settings: dict[str, Any] = {
            "model_source": folder,
            "model_name": NAME,
            "max_context": CONTEXT,
            "threads": options.threads,
            "quantization": options.quantization,
        }
        with processes.engine(**settings) as (_, port):
            dtype = processes.post(port, "/engine/info", {"model": NAME})["dtype"]
            rounds = asyncio.run(measure(port, options.rounds))
    title = f"prompt gap: {options.model or 'demo'}, {dtype}, threads: {options.threads or 'as the engine chooses'}"
    return [Table(title, notes(), {f"{STREAMS} streams": rounds})]


def notes() -> list[str]:
    return [
        f"{STREAMS} streams over HTTP; once all have {ORDINARY_STEPS} tokens, a prompt of {PROMPT_TOKENS} is sent. A "
        "gap is the time",
        "between two tokens of one stream, an ordinary step the median gap before the prompt. The largest gap before",
        f"it is what the machine does to gaps by itself. Promised: at most {PROMISE:g} steps meanwhile. The streams'",
        f"own texts become longer while the prompt is read, so the {STEPS_AFTER} steps after it are another measure.",
    ]


def make(source: Path, folder: Path) -> None:
    """The model in which no token ends an answer, and with the context that is needed; weights are only linked."""
    for file in source.iterdir():
        if file.suffix == ".safetensors":
            (folder / file.name).symlink_to(file.resolve())
        elif file.is_file():
            shutil.copy(file, folder)
    shapes.remove_endings(folder)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["max_position_embeddings"] = max(CONTEXT, config["max_position_embeddings"])
    path.write_text(json.dumps(config, indent=1))


async def measure(port: int, rounds: int) -> list[Sample]:
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    async with aiohttp.ClientSession(f"http://{LOOPBACK}:{port}", timeout=timeout) as session:
        chance = random.Random(1)
        lengths = [await prompt_length(session, digits(chance, count)) for count in TRIAL_DIGITS]
        for_each = (lengths[1] - lengths[0]) / (TRIAL_DIGITS[1] - TRIAL_DIGITS[0])
        count = TRIAL_DIGITS[0] + round((PROMPT_TOKENS - lengths[0]) / for_each)
        # The first one is for what is made on first use.
        samples = [await one_round(session, digits(chance, count)) for _ in range(1 + rounds)]
    return samples[1:]


async def one_round(session: aiohttp.ClientSession, prompt: str) -> Sample:
    streams = [Stream() for _ in range(STREAMS)]
    tasks = [asyncio.create_task(follow(session, i, stream)) for i, stream in enumerate(streams)]
    try:
        await _until_each_has(ORDINARY_STEPS, streams, tasks)
        sent = time.perf_counter()
        tokens = await prompt_length(session, prompt)
        answered, enough = time.perf_counter(), max(stream.tokens for stream in streams) + STEPS_AFTER
        await _until_each_has(enough, streams, tasks)
        return sample(streams, sent, answered, tokens)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _until_each_has(tokens: int, streams: Sequence[Stream], tasks: Sequence[asyncio.Task[None]]) -> None:
    while any(stream.tokens < tokens for stream in streams):
        await asyncio.wait(tasks, timeout=0.05, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:
            if task.done():
                task.result()
                raise BenchFailed("a stream ended too early")


async def follow(session: aiohttp.ClientSession, number: int, stream: Stream) -> None:
    # Sampled, so that also a model of random weights goes on saying something else.
    async with chat(session, f"Tell me story {number}.", STREAM_TOKENS, temperature=1.0, seed=number) as lines:
        async for line in lines:
            at = time.perf_counter()
            stream.came(json.loads(line)["msg"]["response_length"], at)


async def prompt_length(session: aiohttp.ClientSession, prompt: str) -> int:
    """In tokens; returns when the answer, of one token, has come."""
    async with chat(session, prompt, 1) as lines:
        async for line in lines:
            length: int = json.loads(line)["msg"]["prompt_length"]
            return length
    raise BenchFailed("no answer came")


@asynccontextmanager
async def chat(
    session: aiohttp.ClientSession, prompt: str, tokens: int, **options: float
) -> AsyncIterator[aiohttp.StreamReader]:
    """The lines of an answer. Raises BenchFailed where the engine refuses."""
    body = {
        "model": NAME,
        "messages": [{"role": "user", "content": prompt}],
        "options": {"max_new_tokens": tokens, **options},
    }
    async with session.post("/engine/inference", json=body) as response:
        if response.status != 200:
            raise BenchFailed(f"HTTP {response.status}: {await response.text()}")
        yield response.content


def digits(chance: random.Random, count: int) -> str:
    """Text of which a piece has as many tokens as another, with most tokenizers."""
    return " ".join(str(chance.randrange(10)) for _ in range(count))


def parse(argv: Sequence[str] | None = None) -> Options:
    parser = argparse.ArgumentParser(prog="python -m bench.prompt_gap", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", type=Path, metavar="FOLDER", help="default: the demo model, with a longer context")
    parser.add_argument("--rounds", type=int, default=5, help="prompts, one after the other (default 5)")
    parser.add_argument("--threads", type=int, default=0, help="default: as the engine chooses")
    parser.add_argument("--quantization", choices=("none", "int8", "int4"), default="none")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round's values there, too")
    return Options(**vars(parser.parse_args(argv)))


def main() -> int:
    chosen = parse()
    line = f"rounds    {chosen.rounds}, after one that is not counted; cells are min / median / max"
    return runner.run("bench", ["prompt_gap"], chosen, line, chosen.json)


if __name__ == "__main__":
    raise SystemExit(main())
