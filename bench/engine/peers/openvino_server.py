"""A small HTTP server around OpenVINO GenAI's continuous batching, which comes without one. Runs in that peer's venv.

`python openvino_server.py FOLDER PORT THREADS` answers `POST /v1/completions` with a stream of events, as OpenAI's
protocol has it: what the others' servers do for the same text, and nothing more. One thread owns the pipeline; tokens
cross to the event loop once per step, for all requests together. `ignore_eos` is always on.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import queue
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov  # type: ignore[import-not-found]
import openvino_genai as genai  # type: ignore[import-not-found]
import uvicorn
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

CACHE_GB = 4
MAX_SEQUENCES = 64
# What a step takes at most; the library's own default is 256, with which long prompts take longer here.
STEP_TOKENS = 2048
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Answer:
    """One request on its way: its prompt, how many tokens it may have, and the queue on which they come."""

    def __init__(self, prompt: list[int], new_tokens: int) -> None:
        self.prompt = prompt
        self.new_tokens = new_tokens
        self.tokens: asyncio.Queue[list[int]] = asyncio.Queue()


class Steps:
    """The thread that owns the pipeline: takes what has arrived, runs a step, hands over what came of it."""

    def __init__(self, pipeline: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._pipeline = pipeline
        self._loop = loop
        self._arrived: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._running: list[tuple[Any, Answer]] = []
        self._numbers = itertools.count()
        threading.Thread(target=self._run, daemon=True).start()

    def submit(self, answer: Answer) -> None:
        self._arrived.put(answer)

    def _run(self) -> None:
        try:
            self._step_forever()
        finally:
            # It failed, and said so: nobody is to wait for an answer.
            sys.stderr.flush()
            threading.Timer(1, os._exit, (1,)).start()

    def _step_forever(self) -> None:
        while True:
            # Waits only when nothing else is to be done.
            while not self._running or not self._arrived.empty():
                self._begin(self._arrived.get())
            self._pipeline.step()
            came = [(answer, _read(handle)) for handle, answer in self._running if handle.can_read()]
            self._loop.call_soon_threadsafe(_deliver, came)
            self._running = [pair for pair in self._running if pair[0].get_status() == genai.GenerationStatus.RUNNING]

    def _begin(self, answer: Answer) -> None:
        config = genai.GenerationConfig()
        config.max_new_tokens = config.min_new_tokens = answer.new_tokens
        config.ignore_eos = True
        # The library wants one, if only to ignore it.
        config.set_eos_token_id(0)
        config.do_sample = False
        prompt = ov.Tensor(np.array([answer.prompt], dtype=np.int64))
        self._running.append((self._pipeline.add_request(next(self._numbers), prompt, config), answer))


def _read(handle: Any) -> list[int]:
    tokens: list[int] = []
    while handle.can_read():
        for output in handle.read().values():
            tokens += output.generated_ids
    return tokens


def _deliver(came: list[tuple[Answer, list[int]]]) -> None:
    for answer, tokens in came:
        answer.tokens.put_nowait(tokens)


class App:
    """The two routes that the benchmark asks for."""

    def __init__(self, tokenizer: Tokenizer, steps: Steps) -> None:
        self._tokenizer = tokenizer
        self._steps = steps

    async def __call__(
        self, scope: dict[str, Any], receive: Callable[[], Awaitable[dict[str, Any]]], send: Send
    ) -> None:
        assert scope["type"] == "http"
        is_chat = scope["path"] == "/v1/completions"
        kind = b"text/event-stream" if is_chat else b"text/plain"
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
        if is_chat:
            await self._complete(json.loads(await _body(receive)), send)
        await send({"type": "http.response.body", "body": b""})

    async def _complete(self, request: dict[str, Any], send: Send) -> None:
        answer = Answer(self._tokenizer.encode(request["prompt"]).ids, request["max_tokens"])
        self._steps.submit(answer)
        decoder, length = DecodeStream([]), 0
        while length < answer.new_tokens:
            tokens = await answer.tokens.get()
            length += len(tokens)
            text = "".join(decoder.step(self._tokenizer, token) or "" for token in tokens)
            await _event(send, {"choices": [{"index": 0, "text": text, "finish_reason": None}]})
        usage = {"prompt_tokens": len(answer.prompt), "completion_tokens": length}
        await _event(send, {"choices": [{"index": 0, "text": "", "finish_reason": "length"}], "usage": usage})


async def _body(receive: Callable[[], Awaitable[dict[str, Any]]]) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


async def _event(send: Send, event: dict[str, Any]) -> None:
    await send({"type": "http.response.body", "body": b"data: %b\n\n" % json.dumps(event).encode(), "more_body": True})


def pipeline(folder: str, threads: int) -> Any:
    scheduler = genai.SchedulerConfig()
    scheduler.cache_size = CACHE_GB
    scheduler.max_num_batched_tokens = STEP_TOKENS
    scheduler.max_num_seqs = MAX_SEQUENCES
    scheduler.dynamic_split_fuse = True
    scheduler.enable_prefix_caching = False
    return genai.ContinuousBatchingPipeline(folder, scheduler, "CPU", {"INFERENCE_NUM_THREADS": threads}, {})


async def main(folder: str, port: str, threads: str) -> None:
    steps = Steps(pipeline(folder, int(threads)), asyncio.get_running_loop())
    app = App(Tokenizer.from_file(str(Path(folder) / "tokenizer.json")), steps)
    # Whole ASGI: no state is shared with a start-up, and every request is one of ours.
    config = uvicorn.Config(app, "127.0.0.1", int(port), lifespan="off", access_log=False, log_level="warning")
    await uvicorn.Server(config).serve()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvicorn.Config(App, loop="auto").get_loop_factory()) as runner:
        runner.run(main(*sys.argv[1:]))
