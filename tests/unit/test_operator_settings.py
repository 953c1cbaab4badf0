"""The operator's settings: every variable, and a bad value that stops the start by name."""

from __future__ import annotations

import dataclasses
import socket

import pytest

from modelengine.env import LogFormat, MetricsPort
from modelengine.errors import InvalidRequest
from modelengine_operator import settings
from modelengine_operator.settings import Settings
from samples import SETTINGS

IMAGE = {"MODELENGINE_ENGINE_IMAGE": "registry.example/engine:1"}


def test_only_the_engine_s_image_must_be_said() -> None:
    assert settings.from_env(IMAGE) == Settings(
        namespace="default",
        namespaces=(),
        identity=socket.gethostname(),
        engine_image="registry.example/engine:1",
        pull_policy="IfNotPresent",
        allowed_images=(),
        hub_endpoint="",
        health_port=8080,
        log_level="INFO",
        log_format=LogFormat.JSON,
        metrics_port=MetricsPort(9528, is_asked_for=False),
    )


def test_everything_can_be_said() -> None:
    given = IMAGE | {
        "MODELENGINE_NAMESPACE": "modelengine",
        "MODELENGINE_NAMESPACES": "team-a, team-b,,team-a",
        "MODELENGINE_POD_NAME": "operator-1",
        "MODELENGINE_ENGINE_IMAGE_PULL_POLICY": "Never",
        "MODELENGINE_ALLOWED_IMAGES": "a:1, registry.example/*",
        "MODELENGINE_HUB_ENDPOINT": "https://hub.example/hf",
        "MODELENGINE_HEALTH_PORT": "9000",
        "MODELENGINE_LOG_LEVEL": "debug",
        "MODELENGINE_LOG_FORMAT": "text",
        "MODELENGINE_METRICS_PORT": "9000",
    }
    assert settings.from_env(given) == Settings(
        namespace="modelengine",
        namespaces=("team-a", "team-b"),
        identity="operator-1",
        engine_image="registry.example/engine:1",
        pull_policy="Never",
        allowed_images=("a:1", "registry.example/*"),
        hub_endpoint="https://hub.example/hf",
        health_port=9000,
        log_level="DEBUG",
        log_format=LogFormat.TEXT,
        metrics_port=MetricsPort(9000),
    )


@pytest.mark.parametrize("image", [{}, {"MODELENGINE_ENGINE_IMAGE": " "}])
def test_without_the_engine_s_image_it_does_not_start(image: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest, match="MODELENGINE_ENGINE_IMAGE: is required"):
        settings.from_env(image)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MODELENGINE_NAMESPACES", "Team"),
        ("MODELENGINE_NAMESPACES", "a,b c"),
        ("MODELENGINE_NAMESPACES", "a" * 64),
        ("MODELENGINE_NAMESPACES", "-a"),
        ("MODELENGINE_ENGINE_IMAGE_PULL_POLICY", "Sometimes"),
        ("MODELENGINE_HUB_ENDPOINT", "hub.example"),
        ("MODELENGINE_HUB_ENDPOINT", "https://"),
        ("MODELENGINE_HUB_ENDPOINT", "https://a b"),
        ("MODELENGINE_HEALTH_PORT", "0"),
        ("MODELENGINE_HEALTH_PORT", "65536"),
        ("MODELENGINE_LOG_LEVEL", "LOUD"),
    ],
)
def test_a_bad_value_stops_the_start_and_is_named(variable: str, value: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^{variable}: must be .*, got"):
        settings.from_env(IMAGE | {variable: value})


@pytest.mark.parametrize("policy", ["Always", "IfNotPresent", "Never"])
def test_each_of_kubernetes_pull_policies_is_taken(policy: str) -> None:
    assert settings.from_env(IMAGE | {"MODELENGINE_ENGINE_IMAGE_PULL_POLICY": policy}).pull_policy == policy


@pytest.mark.parametrize("port", [1, 65535])
def test_each_port_is_taken(port: int) -> None:
    assert settings.from_env(IMAGE | {"MODELENGINE_HEALTH_PORT": str(port)}).health_port == port


@pytest.mark.parametrize("name", ["a", "a-1", "1a", "a" * 63])
def test_a_namespace_may_be_called_whatever_kubernetes_takes(name: str) -> None:
    assert settings.from_env(IMAGE | {"MODELENGINE_NAMESPACES": name}).namespaces == (name,)


@pytest.mark.parametrize(
    ("image", "is_allowed"),
    [
        ("registry.example/engine:1", True),
        ("registry.example/engine:2", False),
        ("registry.example/engine:1x", False),
        ("registry.example/other/a:1", True),
        ("registry.example/other", False),
        ("exact.example/a:1", True),
        ("exact.example/a:12", False),
        ("", False),
    ],
)
def test_an_image_is_allowed_by_its_name_or_its_beginning(image: str, is_allowed: bool) -> None:
    allowed = dataclasses.replace(SETTINGS, allowed_images=("registry.example/other/*", "exact.example/a:1"))
    assert allowed.allows(image) is is_allowed
    assert dataclasses.replace(SETTINGS, allowed_images=("*",)).allows(image)
