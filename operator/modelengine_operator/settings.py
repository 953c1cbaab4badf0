"""The operator's settings, from environment variables. A bad value stops the start and names the variable."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from modelengine import env, errors
from modelengine.env import LogFormat, MetricsPort

PULL_POLICIES = ("Always", "IfNotPresent", "Never")
HUB_ENDPOINT = re.compile(r"https?://[^\s/]\S*")


@dataclass(frozen=True, slots=True)
class Settings:
    """`namespaces` empty: all of them. An allowed image is an exact name, or the beginning of names before a `*`."""

    namespace: str
    namespaces: tuple[str, ...]
    identity: str
    engine_image: str
    pull_policy: str
    allowed_images: tuple[str, ...]
    hub_endpoint: str
    health_port: int
    log_level: str
    log_format: LogFormat = LogFormat.JSON
    metrics_port: MetricsPort | None = None

    def allows(self, image: str) -> bool:
        return any(_matches(pattern, image) for pattern in (self.engine_image, *self.allowed_images))


def from_env(variables: Mapping[str, str]) -> Settings:
    """Raises InvalidRequest that names the variable and what is allowed."""
    engine_image = env.text(variables, "MODELENGINE_ENGINE_IMAGE", "")
    if not engine_image:
        raise errors.InvalidRequest("MODELENGINE_ENGINE_IMAGE: is required, the image that engine pods run")
    return Settings(
        namespace=env.text(variables, "MODELENGINE_NAMESPACE", "default"),
        namespaces=env.namespaces(variables, "MODELENGINE_NAMESPACES"),
        identity=env.text(variables, "MODELENGINE_POD_NAME", socket.gethostname()),
        engine_image=engine_image,
        pull_policy=env.choice(variables, "MODELENGINE_ENGINE_IMAGE_PULL_POLICY", "IfNotPresent", PULL_POLICIES),
        allowed_images=env.words(variables, "MODELENGINE_ALLOWED_IMAGES"),
        hub_endpoint=_hub_endpoint(variables),
        health_port=env.integer(variables, "MODELENGINE_HEALTH_PORT", 8080, at_least=1, at_most=65535),
        log_level=env.log_level(variables),
        log_format=env.log_format(variables, LogFormat.JSON),
        metrics_port=env.metrics_port(variables, env.DEFAULT_METRICS_PORT),
    )


def _hub_endpoint(variables: Mapping[str, str]) -> str:
    given = env.text(variables, "MODELENGINE_HUB_ENDPOINT", "")
    if given and HUB_ENDPOINT.fullmatch(given) is None:
        raise errors.InvalidRequest(
            f"MODELENGINE_HUB_ENDPOINT: must be an http:// or https:// URL, got {given[:100]!r}"
        )
    return given


def _matches(pattern: str, image: str) -> bool:
    return image.startswith(pattern[:-1]) if pattern.endswith("*") else image == pattern
