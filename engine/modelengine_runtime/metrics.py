"""The engine as Prometheus reads it. `app.py` registers these; each reads the engine when it is asked, so that the step
thread pays for a few sums and nothing else.

The same numbers once more under vLLM's names, so that dashboards, autoscalers and routers that were made for vLLM work
as they are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from prometheus_client import Histogram
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from modelengine.exposition import counter, gauge
from modelengine_api import metrics as of_requests
from modelengine_api.metrics import Requests
from modelengine_kernels.layout import BLOCK_TOKENS
from modelengine_runtime.encoding import EncodingEngine
from modelengine_runtime.engine import Engine
from modelengine_runtime.lifecycle import AnyEngine, Lifecycle
from modelengine_runtime.progress import Stage
from modelengine_runtime.scheduler import Load

PART = "engine"
MODEL = "model"
VLLM_MODEL = "model_name"


class EngineMetrics(Collector):
    """Under our own names. Before the model is loaded there is only the stage."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle

    def collect(self) -> Iterator[Metric]:
        name, now = self._lifecycle.name, self._lifecycle.stage
        yield gauge(
            "modelengine_engine_stage",
            "1 for the stage that the engine is in, 0 for the others.",
            (MODEL, "stage"),
            {(name, stage): float(stage is now) for stage in Stage},
        )
        engine = self._lifecycle.loaded
        if engine is not None:
            yield from self._queue(engine)
            yield from self._steps(engine)
        if isinstance(engine, EncodingEngine):
            yield self._counter(
                "modelengine_step_rows_total",
                "Texts that became vectors, or queries with a document that became scores.",
                engine.loop.work.rows,
            )
        if isinstance(engine, Engine):
            yield from self._fullness(engine)
            yield from self._work(engine)
            yield from self._cache(engine)

    def _gauge(self, name: str, meaning: str, value: float) -> Metric:
        return gauge(name, meaning, (MODEL,), {(self._lifecycle.name,): value})

    def _counter(self, name: str, meaning: str, value: float) -> Metric:
        return counter(name, meaning, (MODEL,), {(self._lifecycle.name,): value})

    def _queue(self, engine: AnyEngine) -> Iterator[Metric]:
        load = engine.load
        yield self._gauge("modelengine_requests_running", "Requests that have a place in the batch.", load.running)
        yield self._gauge("modelengine_requests_waiting", "Requests that wait for a place in the batch.", load.waiting)

    def _fullness(self, engine: Engine) -> Iterator[Metric]:
        load, limits = engine.load, engine.limits
        yield self._gauge("modelengine_batch_places", "Places that the batch has.", limits.max_running)
        yield self._gauge(
            "modelengine_kv_cache_usage_ratio", "Share of the KV cache that open requests hold, 0 to 1.", usage(load)
        )
        yield self._gauge(
            "modelengine_kv_cache_blocks", f"Blocks of {BLOCK_TOKENS} tokens that the KV cache has.", load.blocks_total
        )
        yield self._gauge(
            "modelengine_kv_cache_idle_blocks",
            "Blocks that no request holds, kept for the next one that begins alike.",
            load.blocks_cached,
        )

    def _steps(self, engine: AnyEngine) -> Iterator[Metric]:
        name, work, ended = self._lifecycle.name, engine.loop.work, engine.loop.counters
        yield counter(
            "modelengine_requests_total",
            "Requests by outcome: finished, aborted because the caller left, failed.",
            (MODEL, "outcome"),
            {(name, outcome): getattr(ended, outcome) for outcome in ("finished", "aborted", "failed")},
        )
        yield self._counter("modelengine_steps_total", "Runs of the model, each over all that is due.", work.steps)
        yield self._counter("modelengine_step_seconds_total", "Time that steps took.", work.seconds)
        yield self._counter(
            "modelengine_step_tokens_total",
            "Tokens that went through the model, without guesses and without what fills up rows.",
            work.tokens,
        )

    def _work(self, engine: Engine) -> Iterator[Metric]:
        load = engine.load
        yield self._counter(
            "modelengine_preemptions_total",
            "Times that a request gave its cache up to others and waited again.",
            load.preemptions,
        )
        yield self._counter(
            "modelengine_prompt_tokens_total",
            "Tokens of the requests that got a place, those that the prefix cache had included.",
            load.prompt_tokens,
        )
        yield self._counter(
            "modelengine_generation_tokens_total",
            "Tokens that the model said, the ends of its turns included.",
            engine.loop.work.generated,
        )

    def _cache(self, engine: Engine) -> Iterator[Metric]:
        load = engine.load
        yield self._counter(
            "modelengine_prefix_cache_query_tokens_total",
            "Tokens that were looked up in the prefix cache.",
            load.prompt_tokens,
        )
        yield self._counter(
            "modelengine_prefix_cache_hit_tokens_total", "Tokens that the prefix cache had.", load.hit_tokens
        )
        yield self._counter("modelengine_draft_tokens_total", "Tokens that were guessed.", load.draft_tokens)
        yield self._counter(
            "modelengine_draft_accepted_tokens_total",
            "Guessed tokens that were right.",
            load.accepted_tokens,
        )


class VllmMetrics(Collector):
    """Under vLLM's names and label."""

    def __init__(self, lifecycle: Lifecycle, requests: Requests) -> None:
        self._lifecycle = lifecycle
        self._requests = requests

    def collect(self) -> Iterator[Metric]:
        engine = self._lifecycle.loaded
        if not isinstance(engine, Engine):
            return
        name, load = self._lifecycle.name, engine.load
        for metric, value, ours in (
            ("vllm:num_requests_running", load.running, "modelengine_requests_running"),
            ("vllm:num_requests_waiting", load.waiting, "modelengine_requests_waiting"),
            ("vllm:kv_cache_usage_perc", usage(load), "modelengine_kv_cache_usage_ratio"),
        ):
            yield gauge(metric, f"vLLM's name for {ours}.", (VLLM_MODEL,), {(name,): value})
        for metric, count, ours in (
            ("vllm:prompt_tokens_total", load.prompt_tokens, "modelengine_prompt_tokens_total"),
            ("vllm:generation_tokens_total", engine.loop.work.generated, "modelengine_generation_tokens_total"),
        ):
            yield counter(metric, f"vLLM's name for {ours}.", (VLLM_MODEL,), {(name,): count})
        yield _renamed("vllm:time_to_first_token_seconds", self._requests.first_token, name)
        yield _renamed("vllm:e2e_request_latency_seconds", self._requests.duration, name)
        facts = {
            VLLM_MODEL: name,
            "block_size": str(BLOCK_TOKENS),
            "num_gpu_blocks": str(load.blocks_total),
            "cache_dtype": engine.model.dtype,
            "enable_prefix_caching": str(engine.limits.has_prefix_cache),
        }
        yield gauge(
            "vllm:cache_config_info",
            "Always 1; the labels say what the KV cache is, as vLLM does.",
            tuple(facts),
            {tuple(facts.values()): 1.0},
        )


def usage(load: Load) -> float:
    """Share of the KV cache that is held, 0 to 1."""
    return load.blocks_used / load.blocks_total if load.blocks_total else 0.0


def _renamed(name: str, histogram: Histogram, model: str) -> Metric:
    """All answers of the histogram that went well, whatever was asked for, as one under another name."""
    [original] = histogram.collect()
    buckets: dict[str, float] = defaultdict(float)
    sums = 0.0
    for sample in original.samples:
        if not _went_well(sample.labels, model):
            continue
        if sample.name.endswith("_bucket"):
            buckets[sample.labels["le"]] += sample.value
        elif sample.name.endswith("_sum"):
            sums += sample.value
    if not buckets:
        buckets["+Inf"] = 0.0
    meaning = f"vLLM's name for {original.name}, of answers that went well."
    family = HistogramMetricFamily(name, meaning, labels=(VLLM_MODEL,))
    family.add_metric((model,), list(buckets.items()), sums)
    return family


def _went_well(labels: Mapping[str, str], model: str) -> bool:
    return labels[of_requests.MODEL] == model and not labels.get(of_requests.ERROR)
