"""The front door's settings, from environment variables. A bad value stops the start and names the variable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from modelengine import env
from modelengine.env import LogFormat, MetricsPort
from modelengine.protocol import DEFAULT_PORT

MAX_LEASE_S = 10.0


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
    log_level: str = "INFO"
    registry: RegistryKind = RegistryKind.MEMORY
    # Of ConfigMaps: the namespaces that are read, all when empty, and the one whose names go first.
    namespaces: tuple[str, ...] = ()
    own_namespace: str = ""
    log_format: LogFormat = LogFormat.TEXT
    metrics_port: MetricsPort | None = None


def from_env(variables: Mapping[str, str]) -> Settings:
    """Raises InvalidRequest that names the variable and what is allowed."""
    default = Settings()
    return Settings(
        listen_host=env.text(variables, "MODELENGINE_LISTEN_HOST", default.listen_host),
        listen_port=env.integer(variables, "MODELENGINE_LISTEN_PORT", DEFAULT_PORT, at_least=0, at_most=65535),
        lease_s=env.number(variables, "MODELENGINE_LEASE_S", default.lease_s, at_least=0.3, at_most=MAX_LEASE_S),
        grace_s=env.number(variables, "MODELENGINE_GRACE_S", default.grace_s, at_least=0, at_most=3600),
        log_level=env.log_level(variables),
        registry=RegistryKind(env.choice(variables, "MODELENGINE_REGISTRY", default.registry, tuple(RegistryKind))),
        namespaces=env.namespaces(variables, "MODELENGINE_NAMESPACES"),
        own_namespace=env.text(variables, "MODELENGINE_NAMESPACE", ""),
        log_format=env.log_format(variables),
        metrics_port=env.metrics_port(variables, env.DEFAULT_METRICS_PORT),
    )
