"""The engine process: settings -> model -> server. The only file that joins torch with the rest."""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import sys
import threading
from pathlib import Path
from typing import Any

from modelengine import announce
from modelengine.exposition import Exposition
from modelengine.protocol import CHAT
from modelengine_api import logs, programs, serving
from modelengine_runtime import checkpoint, metrics, source
from modelengine_runtime import settings as configuration
from modelengine_runtime.app import create_app
from modelengine_runtime.blocks import blocks_that_fit
from modelengine_runtime.encoding import EncodingEngine, EncodingLimits
from modelengine_runtime.engine import Engine
from modelengine_runtime.lifecycle import LOADING_THREAD, AnyEngine, Lifecycle
from modelengine_runtime.scheduler import Limits
from modelengine_runtime.settings import Settings

# A prompt is taken in pieces of this many tokens, so that running answers wait no longer than one piece. Prompts get at
# least half of a step, however many answers run.
STEP_TOKENS = 512
# Of the memory that is free once the model is loaded, what the caches of all requests may come to.
KV_MEMORY_SHARE = 0.5
# A GPU is ours alone; what is left is for a pass and its graphs.
GPU_KV_MEMORY_SHARE = 0.85
# A step of texts that become vectors or scores, at most; how many it has is measured. What a step needs grows with it.
ENCODE_STEP_TOKENS = 8192
GPU_ENCODE_STEP_TOKENS = 32_768


def main() -> None:
    settings = configuration.from_env(os.environ)
    logs.configure(settings.log_level, settings.log_format)
    name = settings.model_name or source.parse(settings.model_source).name
    lifecycle = Lifecycle(
        name,
        lambda: load(settings),
        settings.nameserver,
        settings.advertise_host,
        on_ready=lambda port: print(announce.engine_runs(name, port), flush=True),
        protocol=settings.protocol,
    )
    exposition = Exposition(metrics.PART, settings.listen_host, settings.metrics_port)
    serving.serve(
        create_app(lifecycle, settings.pages, exposition, settings.metrics_compat),
        settings.listen_host,
        settings.listen_port,
        on_listening=lifecycle.begin,
        on_stop=lifecycle.leave,
        # Who registers with a name server is off its list by now. Without one somebody may still come, who heard of it
        # a moment ago: he is told, and not shut out.
        until_idle=None if settings.nameserver else lifecycle.drained,
        grace_s=settings.grace_s,
    )
    lifecycle.close()
    print(announce.ENGINE_GONE, flush=True)


def load(settings: Settings) -> AnyEngine:
    folder = source.resolve(settings.model_source, progress=sys.stderr.isatty())
    checkpoint.require(folder, settings.protocol)
    # torch takes seconds to import; the server answers `health` meanwhile. The collector would look again and again
    # through what importing makes, which all stays.
    gc.disable()
    try:
        importlib.import_module("modelengine_runtime.loader")
    finally:
        gc.enable()
    engine = _chat_engine(folder, settings) if settings.protocol == CHAT else _encoding_engine(folder, settings)
    # Everything up to here stays. A collection that went through it all would stop every answer for 150 ms.
    gc.collect()
    gc.freeze()
    # At the end it goes after all: some libraries complain of what does not.
    atexit.register(gc.unfreeze)
    return engine


def _chat_engine(folder: Path, settings: Settings) -> Engine:
    from modelengine_runtime import loader, machine

    model = loader.load(folder, **_how_to_load(settings))
    share = KV_MEMORY_SHARE if model.device == "cpu" else GPU_KV_MEMORY_SHARE
    kv_bytes = int(machine.free_memory_bytes(model.device) * share)
    limits = Limits(
        max_running=settings.max_batch_size,
        max_waiting=settings.max_queue,
        step_tokens=max(STEP_TOKENS, 2 * settings.max_batch_size),
        kv_blocks=blocks_that_fit(kv_bytes, model.kv_bytes_per_token, model.context_length, settings.max_batch_size),
        has_prefix_cache=model.has_prefix_cache,
        # Only a paged cache forgets what was guessed wrongly.
        draft_rows=settings.draft_rows if model.has_prefix_cache else 0,
    )
    return Engine(model, limits)


def _encoding_engine(folder: Path, settings: Settings) -> EncodingEngine:
    from modelengine_runtime import encoder_loader

    model = encoder_loader.load(folder, settings.protocol, **_how_to_load(settings))
    step_tokens = ENCODE_STEP_TOKENS if model.device == "cpu" else GPU_ENCODE_STEP_TOKENS
    return EncodingEngine(model, EncodingLimits(settings.max_batch_size, settings.max_queue, step_tokens))


def _how_to_load(settings: Settings) -> dict[str, Any]:
    return {
        "device": settings.device,
        "dtype": settings.dtype,
        "quantization": settings.quantization,
        "max_context": settings.max_context,
        "threads": settings.threads,
        "progress": sys.stderr.isatty(),
    }


if __name__ == "__main__":
    code = programs.exit_code(main)
    if any(thread.name == LOADING_THREAD for thread in threading.enumerate()):
        # Stopped in the middle of loading: torch's threads do not survive the interpreter's own tidying up.
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
