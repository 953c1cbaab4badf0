"""The front door's settings, from environment variables. A bad value stops the start and names the variable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from modelengine import env
from modelengine.protocol import DEFAULT_PORT
from modelengine_api import pages
from modelengine_api.pages import Policy

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


def from_env(variables: Mapping[str, str]) -> Settings:
    """Raises InvalidRequest that names the variable and what is allowed."""
    default = Settings()
    listen_host = env.text(variables, "MODELENGINE_LISTEN_HOST", default.listen_host)
    return Settings(
        listen_host=listen_host,
        listen_port=env.integer(variables, "MODELENGINE_LISTEN_PORT", DEFAULT_PORT, at_least=0, at_most=65535),
        lease_s=env.number(variables, "MODELENGINE_LEASE_S", default.lease_s, at_least=0.3, at_most=MAX_LEASE_S),
        grace_s=env.number(variables, "MODELENGINE_GRACE_S", default.grace_s, at_least=0, at_most=3600),
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
    )
