"""The front door's settings, from environment variables. A bad value stops the start and names the variable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from modelengine import env
from modelengine.env import LogFormat, MetricsPort
from modelengine.protocol import DEFAULT_PORT
from modelengine_api import pages
from modelengine_api.pages import Policy

MAX_LEASE_S = 10.0
MAX_DEADLINE_S = 86_400.0


class RegistryKind(StrEnum):
    """Where the names come from: engines that register, or the registry ConfigMaps of a cluster."""

    MEMORY = "memory"
    CONFIG_MAPS = "configmaps"


@dataclass(frozen=True, slots=True)
class Settings:
    # Loopback: whoever opens the port to others says so.
    listen_host: str = "127.0.0.1"
    listen_port: int = DEFAULT_PORT
    # How long an engine stays listed after its last renewal; it renews at a third of this.
    lease_s: float = 6.0
    # How long open streams may go on after the first stop signal.
    grace_s: float = 30.0
    # How long an engine may take for its first byte, be silent between two, and take for a whole answer. It may have a
    # long queue before the first, so a chat may be silent for as long as clients wait.
    first_byte_s: float = 600.0
    between_bytes_s: float = 120.0
    answer_s: float = 3600.0
    # How many requests for one name may wait while every replica is full or none is ready, and how long.
    queue_length: int = 256
    queue_s: float = 5.0
    log_level: str = "INFO"
    max_connections: int = 10_000
    # A file with API keys, or a folder with one for each (`keys.py`); empty: nobody needs any.
    api_keys: str = ""
    # Which browsers' pages may ask, and the names that this server is called by.
    pages: Policy = Policy(is_loopback=True)
    # Of whoever started this process, as `modelengine up` does: `sha256:` and its digest. Opens everything.
    own_key: str = ""
    registry: RegistryKind = RegistryKind.MEMORY
    # Of ConfigMaps: the namespaces that are read, all when empty, and the one whose names go first.
    namespaces: tuple[str, ...] = ()
    own_namespace: str = ""
    log_format: LogFormat = LogFormat.TEXT
    metrics_port: MetricsPort | None = None


def from_env(variables: Mapping[str, str]) -> Settings:
    """Raises InvalidRequest that names the variable and what is allowed."""
    default = Settings()
    listen_host = env.text(variables, "MODELENGINE_LISTEN_HOST", default.listen_host)
    return Settings(
        listen_host=listen_host,
        listen_port=env.integer(variables, "MODELENGINE_LISTEN_PORT", DEFAULT_PORT, at_least=0, at_most=65535),
        lease_s=env.number(variables, "MODELENGINE_LEASE_S", default.lease_s, at_least=0.3, at_most=MAX_LEASE_S),
        grace_s=env.number(variables, "MODELENGINE_GRACE_S", default.grace_s, at_least=0, at_most=3600),
        first_byte_s=_deadline(variables, "MODELENGINE_FIRST_BYTE_S", default.first_byte_s),
        between_bytes_s=_deadline(variables, "MODELENGINE_BETWEEN_BYTES_S", default.between_bytes_s),
        answer_s=_deadline(variables, "MODELENGINE_ANSWER_S", default.answer_s),
        queue_length=env.integer(
            variables, "MODELENGINE_QUEUE_LENGTH", default.queue_length, at_least=0, at_most=100_000
        ),
        queue_s=env.number(variables, "MODELENGINE_QUEUE_S", default.queue_s, at_least=0, at_most=3600),
        log_level=env.log_level(variables),
        max_connections=env.integer(
            variables, "MODELENGINE_MAX_CONNECTIONS", default.max_connections, at_least=1, at_most=1_000_000
        ),
        api_keys=env.text(variables, "MODELENGINE_API_KEYS", ""),
        pages=pages.policy(variables, listen_host),
        own_key=env.text(variables, "MODELENGINE_OWN_KEY", ""),
        registry=RegistryKind(env.choice(variables, "MODELENGINE_REGISTRY", default.registry, tuple(RegistryKind))),
        namespaces=env.namespaces(variables, "MODELENGINE_NAMESPACES"),
        own_namespace=env.text(variables, "MODELENGINE_NAMESPACE", ""),
        log_format=env.log_format(variables),
        metrics_port=env.metrics_port(variables, env.DEFAULT_METRICS_PORT),
    )


def _deadline(variables: Mapping[str, str], name: str, default: float) -> float:
    return env.number(variables, name, default, at_least=0.1, at_most=MAX_DEADLINE_S)
