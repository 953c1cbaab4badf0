"""An engine whose model costs nothing: the real step thread, scheduler and HTTP surface over a runner that says "a".

What is left to measure is ours. `python -m bench.fake_engine` serves it, with the settings of a real engine;
`bench.direct` drives the same Engine without HTTP.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from modelengine_api import logs, programs, serving
from modelengine_runtime import settings as configuration
from modelengine_runtime.app import create_app
from modelengine_runtime.engine import Engine
from modelengine_runtime.lifecycle import Lifecycle
from modelengine_runtime.model import LoadedModel
from modelengine_runtime.scheduler import Chunk, Limits
from modelengine_runtime.sequence import ChatSequence

NAME = "fake"
TOKEN = ord("a")
# A decode step takes this long, as on a fast GPU, and leaves the processor to others meanwhile. Without it the step
# thread would run ahead and the server send many chunks in one go, which costs less than what users cause.
STEP_S = 0.005
LIMITS = Limits(max_running=64, max_waiting=256, step_tokens=512, kv_blocks=10**8)


class FakeRunner:
    """A step with a prompt in it takes no time, so that the time to the first chunk is all ours."""

    def reserve(self, kv_blocks: int) -> None:
        """Needs no room."""

    def step(self, chunks: Sequence[Chunk]) -> list[Sequence[int]]:
        if all(chunk.start for chunk in chunks):
            time.sleep(STEP_S)
        return [[TOKEN] if chunk.samples else [] for chunk in chunks]

    def release(self, sequence: ChatSequence) -> None:
        """Holds nothing."""


class FakeTokenizer:
    """A token is a byte."""

    def apply_chat_template(self, conversation: Sequence[Mapping[str, Any]], **_: Any) -> list[int]:
        return list("".join(message.get("content") or "" for message in conversation).encode())


def engine() -> Engine:
    model = LoadedModel(
        runner=FakeRunner(),
        tokenizer=FakeTokenizer(),
        decode=lambda tokens: bytes(tokens).decode(),
        architecture="Fake",
        parameters=0,
        context_length=4096,
        dtype="float32",
        device="cpu",
        stop_tokens=frozenset(),
        generation_defaults={},
        kv_bytes_per_token=1,
    )
    return Engine(model, LIMITS)


def main() -> None:
    settings = configuration.from_env(os.environ)
    logs.configure(settings.log_level)
    lifecycle = Lifecycle(NAME, engine, settings.nameserver, settings.advertise_host)
    serving.serve(
        create_app(lifecycle),
        settings.listen_host,
        settings.listen_port,
        on_listening=lifecycle.begin,
        on_stop=lifecycle.leave,
        grace_s=settings.grace_s,
    )
    lifecycle.close()


if __name__ == "__main__":
    raise SystemExit(programs.exit_code(main))
