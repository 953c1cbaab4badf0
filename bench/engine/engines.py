"""The engines that are compared, as data: how each is started, how it is asked, and what it reads of its weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import processes
from bench.engine import setup
from bench.engine.shapes import SHAPES
from bench.processes import BenchFailed

# Every engine has room for as many answers at once, each of as many tokens with its prompt.
SEQUENCES = 32
CONTEXT = 768
# transformers' default; the room is counted in blocks of so many tokens.
TRANSFORMERS_BLOCK = 256
OURS, TRANSFORMERS, LLAMA_CPP, OPENVINO = "ours", "transformers", "llama.cpp", "openvino"
BFLOAT16, INT8 = "bfloat16", "int8"
COMPLETIONS = "/v1/completions"
# The others would have to be built for one.
ON_GPU = ("ours bfloat16", "transformers bfloat16")
# Of our own layouts: the bits of a weight, with its share of the scales.
OUR_BITS = {"bfloat16": 16.0, "int8": 8.0, "int4": 5.0}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server is to run: `device` is `cpu` or `cuda`."""

    port: int = 0
    threads: int = 1
    device: str = "cpu"


@dataclass(frozen=True, slots=True)
class Launch:
    """How one server is started and asked. `settings` are MODELENGINE_ variables, `weight_bytes` what a step reads."""

    argv: Sequence[str]
    ready: str
    path: str
    weight_bytes: float
    body: Callable[[str, int], Mapping[str, Any]]
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Engine:
    """One maker's engine at one precision. `arithmetic` names the peak of the processor that its products can reach."""

    maker: str
    precision: str
    arithmetic: str
    launch: Callable[[str, str, Place], Launch]

    @property
    def name(self) -> str:
        return f"{self.maker} {self.precision}"

    def start(self, shape: str, place: Place) -> Launch:
        """Makes what is missing of it, which may take minutes the first time. Raises BenchFailed where it does not run
        there."""
        if place.device != "cpu" and self.name not in ON_GPU:
            raise BenchFailed(f"{self.name} is measured on a CPU only; on a GPU: {', '.join(ON_GPU)}")
        return self.launch(shape, self.precision, place)


def completion(prompt: str, new_tokens: int, **more: object) -> dict[str, Any]:
    return {"prompt": prompt, "max_tokens": new_tokens, "temperature": 0, "stream": True, **more}


def _ours(shape: str, precision: str, place: Place) -> Launch:
    name = "bench"

    def body(prompt: str, new_tokens: int) -> dict[str, Any]:
        options = {"max_new_tokens": new_tokens, "temperature": 0}
        return {"model": name, "messages": [{"role": "user", "content": prompt}], "options": options, "stream": True}

    settings = {
        "model_source": setup.model(shape),
        "model_name": name,
        "dtype": BFLOAT16,
        "quantization": "none" if precision == BFLOAT16 else precision,
        "max_batch_size": SEQUENCES,
        "max_context": CONTEXT,
        "device": place.device,
        "threads": place.threads,
        # The peers guess nothing ahead, and random weights repeat themselves.
        "draft_rows": 0,
        "listen_port": place.port,
    }
    weight_bytes = SHAPES[shape].weights * OUR_BITS[precision] / 8
    argv = (*processes.PYTHON, "modelengine_runtime")
    return Launch(argv, "/ready", "/engine/inference", weight_bytes, body, settings)


def _transformers(shape: str, precision: str, place: Place) -> Launch:
    folder = setup.model(shape)
    blocks = SEQUENCES * CONTEXT // TRANSFORMERS_BLOCK
    serve = [
        *("env", "HF_HUB_OFFLINE=1", f"OMP_NUM_THREADS={place.threads}"),
        *(str(setup.programs("transformers") / "transformers"), "serve", str(folder), "--continuous-batching"),
        *("--device", place.device, "--dtype", precision, "--cb-num-blocks", str(blocks)),
        *("--host", processes.LOOPBACK, "--port", str(place.port)),
    ]
    weight_bytes = (folder / "model.safetensors").stat().st_size

    def body(prompt: str, new_tokens: int) -> dict[str, Any]:
        return completion(prompt, new_tokens, model=str(folder))

    return Launch(serve, "/health", COMPLETIONS, weight_bytes, body)


def _llama_cpp(shape: str, precision: str, place: Place) -> Launch:
    model = setup.gguf(shape, precision)
    serve = [
        *(str(setup.llama_cpp() / "bin/llama-server"), "--model", str(model)),
        *("--parallel", str(SEQUENCES), "--ctx-size", str(SEQUENCES * CONTEXT), "--no-kv-unified"),
        # Prompts that come again are not what is measured, and none does.
        *("--threads", str(place.threads), "--no-cache-prompt", "--cache-ram", "0", "--no-ui"),
        *("--host", processes.LOOPBACK, "--port", str(place.port)),
    ]

    def body(prompt: str, new_tokens: int) -> dict[str, Any]:
        usage = {"stream_options": {"include_usage": True}}
        # Greedy, and by the shortest way there.
        return completion(prompt, new_tokens, ignore_eos=True, top_k=1, samplers=["top_k"], **usage)

    return Launch(serve, "/health", COMPLETIONS, model.stat().st_size, body)


def _openvino(shape: str, precision: str, place: Place) -> Launch:
    folder = setup.openvino(shape, precision)
    server = Path(__file__).parent / "peers/openvino_server.py"
    python = setup.programs("openvino") / "python"
    argv = [str(word) for word in (python, server, folder, place.port, place.threads)]
    return Launch(argv, "/ready", COMPLETIONS, (folder / "openvino_model.bin").stat().st_size, completion)


# In the order in which they take turns.
ENGINES = {
    engine.name: engine
    for engine in (
        Engine(OURS, "int8", INT8, _ours),
        Engine(LLAMA_CPP, "Q8_0", INT8, _llama_cpp),
        Engine(OPENVINO, "int8", INT8, _openvino),
        Engine(TRANSFORMERS, BFLOAT16, BFLOAT16, _transformers),
        Engine(OURS, BFLOAT16, BFLOAT16, _ours),
        Engine(OURS, "int4", INT8, _ours),
        Engine(LLAMA_CPP, "Q4_0", INT8, _llama_cpp),
        Engine(OPENVINO, "int4", INT8, _openvino),
    )
}


def bodies(launch: Launch, prompts: Sequence[str], new_tokens: int) -> list[str]:
    return [json.dumps(launch.body(prompt, new_tokens)) for prompt in prompts]
