"""From `modelengine up` to the first token: what a new user waits for.

Each round starts the command anew, with the demo model, and ends it again. Importing torch and transformers, which
nobody who serves a transformers model can leave out, is measured beside it.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from bench import processes, stats
from bench.options import Options
from bench.processes import LOOPBACK, BenchFailed
from bench.report import Table
from bench.stats import Sample
from modelengine import ChatClient, errors

COMMAND = Path(sys.executable).with_name("modelengine")
MODEL = "demo"
HELLO = ({"role": "user", "content": "hello"},)
IMPORTS = "import torch; from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer"
TIMEOUT_S = 120.0
NOTES = (
    "seconds since the process of `modelengine up` was started, files in the page cache after the first round:",
    "until the name server answers, until it lists the engine, until the first part of a chat has come;",
    "below, as a floor: a Python that only imports torch and the three classes of transformers that the engine needs.",
)


def run(options: Options) -> list[Table]:
    rounds = stats.take_turns({"modelengine up": up, "imports alone": imports}, options.rounds)
    return [Table("start", NOTES, rounds)]


def up() -> Sample:
    """One start of the whole system. A port of our choice: with `--port 0` it would have to be read first."""
    port = processes.free_port()
    started = time.perf_counter()
    with processes.running((str(COMMAND), "up", MODEL, "--port", str(port))) as child:
        processes.wait_answer(child, port, "/health", TIMEOUT_S)
        answers = time.perf_counter()
        with ChatClient(f"{LOOPBACK}:{port}") as client:
            try:
                client.wait_service_available(MODEL, TIMEOUT_S)
                listed = time.perf_counter()
                with client.chat(MODEL, HELLO, stream=True) as stream:
                    next(stream)
                    first = time.perf_counter()
            except errors.ModelEngineError as failure:
                child.check_alive()
                raise BenchFailed(f"the start failed: {failure}") from failure
    return {
        "name server answers s": answers - started,
        "engine listed s": listed - started,
        "first token s": first - started,
    }


def imports() -> Sample:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", IMPORTS], check=True, timeout=TIMEOUT_S, env=processes.environment())
    return {"imported s": time.perf_counter() - started}
