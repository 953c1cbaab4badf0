"""The engine's settings, from the environment. A bad value stops the start, naming the variable and what is allowed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from modelengine import addresses, errors, flows
from modelengine import env as read
from modelengine.env import LogFormat, MetricsPort
from modelengine.flows import HOST_VARIABLE
from modelengine.protocol import CHAT, PROTOCOLS
from modelengine_api import pages
from modelengine_api.pages import Policy
from modelengine_runtime.checkpoint import PROTOCOL_VARIABLE

DTYPES = ("auto", "float32", "bfloat16", "float16")
QUANTIZATIONS = ("none", "int8", "int4")
# Whose names metrics have beside ours.
VLLM = "vllm"
METRICS_COMPAT = (VLLM, "none")


@dataclass(frozen=True, slots=True)
class Settings:
    """`nameserver` empty: the engine registers nowhere.

    `max_context` 0 is what the model was made for, `threads` 0 what suits its size and the machine. Guessed tokens
    fill a step up to `draft_rows`. `metrics_port` None: no metrics are served, as several engines may share a machine.
    """

    model_source: str
    model_name: str
    protocol: str
    listen_host: str
    listen_port: int
    advertise_host: str
    nameserver: str
    device: str
    dtype: str
    quantization: str
    max_batch_size: int
    max_context: int
    max_queue: int
    threads: int
    draft_rows: int
    grace_s: float
    log_level: str
    log_format: LogFormat
    metrics_port: MetricsPort | None
    metrics_compat: str
    pages: Policy


def from_env(env: Mapping[str, str]) -> Settings:
    """Raises InvalidRequest for a value that is not allowed."""
    listen_host = read.text(env, "MODELENGINE_LISTEN_HOST", "127.0.0.1")
    return Settings(
        model_source=read.text(env, "MODELENGINE_MODEL_SOURCE", "demo"),
        model_name=read.text(env, "MODELENGINE_MODEL_NAME", ""),
        protocol=read.choice(env, PROTOCOL_VARIABLE, CHAT, PROTOCOLS),
        listen_host=listen_host,
        listen_port=read.integer(env, "MODELENGINE_LISTEN_PORT", 0, at_least=0, at_most=65535),
        advertise_host=read.text(env, "MODELENGINE_ADVERTISE_HOST", addresses.dialled_by_others(listen_host)),
        nameserver=_nameserver(env),
        device=read.text(env, "MODELENGINE_DEVICE", "auto"),
        dtype=read.choice(env, "MODELENGINE_DTYPE", "auto", DTYPES),
        quantization=read.choice(env, "MODELENGINE_QUANTIZATION", "none", QUANTIZATIONS),
        max_batch_size=read.integer(env, "MODELENGINE_MAX_BATCH_SIZE", 32, at_least=1, at_most=1024),
        max_context=read.integer(env, "MODELENGINE_MAX_CONTEXT", 0, at_least=0, at_most=10_000_000),
        max_queue=read.integer(env, "MODELENGINE_MAX_QUEUE", 256, at_least=0, at_most=100_000),
        threads=read.integer(env, "MODELENGINE_THREADS", 0, at_least=0, at_most=1024),
        draft_rows=read.integer(env, "MODELENGINE_DRAFT_ROWS", 6, at_least=0, at_most=64),
        grace_s=read.number(env, "MODELENGINE_GRACE_S", 30.0, at_least=0, at_most=86_400),
        log_level=read.log_level(env),
        log_format=read.log_format(env),
        metrics_port=read.metrics_port(env),
        metrics_compat=read.choice(env, "MODELENGINE_METRICS_COMPAT", VLLM, METRICS_COMPAT),
        pages=pages.policy(env, listen_host),
    )


def _nameserver(env: Mapping[str, str]) -> str:
    given = read.text(env, HOST_VARIABLE, "")
    try:
        return flows.base_url(given) if given else ""
    except errors.InvalidRequest as refused:
        raise errors.InvalidRequest(f"{HOST_VARIABLE}: {refused.message.removeprefix('host: ')}") from refused
