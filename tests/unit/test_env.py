"""Settings from the environment: what is taken, and what a wrong value is told."""

from __future__ import annotations

import pytest

from modelengine import env, errors
from modelengine_api.pages import Policy
from modelengine_gateway import settings
from modelengine_runtime import settings as engine_settings


def test_without_any_variable_the_front_door_listens_on_the_loopback_at_9527() -> None:
    chosen = settings.from_env({})
    assert (chosen.listen_host, chosen.listen_port, chosen.lease_s, chosen.log_level) == (
        "127.0.0.1",
        9527,
        6.0,
        "INFO",
    )


def test_each_variable_is_read() -> None:
    chosen = settings.from_env(
        {
            "MODELENGINE_LISTEN_HOST": "0.0.0.0",
            "MODELENGINE_LISTEN_PORT": "0",
            "MODELENGINE_LEASE_S": "2.5",
            "MODELENGINE_GRACE_S": "1",
            "MODELENGINE_LOG_LEVEL": "debug",
            "MODELENGINE_MAX_CONNECTIONS": "7",
            "MODELENGINE_API_KEYS": "/keys",
            "MODELENGINE_OWN_KEY": "sha256:0",
            "MODELENGINE_FIRST_BYTE_S": "30",
            "MODELENGINE_BETWEEN_BYTES_S": "20",
            "MODELENGINE_ANSWER_S": "100",
            "MODELENGINE_QUEUE_LENGTH": "7",
            "MODELENGINE_QUEUE_S": "0",
            "MODELENGINE_LOG_FORMAT": "json",
            "MODELENGINE_METRICS_PORT": "0",
        }
    )
    assert chosen == settings.Settings(
        listen_host="0.0.0.0",
        listen_port=0,
        lease_s=2.5,
        grace_s=1.0,
        log_level="DEBUG",
        first_byte_s=30,
        between_bytes_s=20,
        answer_s=100,
        queue_length=7,
        queue_s=0,
        max_connections=7,
        api_keys="/keys",
        own_key="sha256:0",
        pages=Policy(),
        log_format=env.LogFormat.JSON,
        metrics_port=env.MetricsPort(0),
    )


def test_the_front_door_has_metrics_at_9528_where_that_is_free_and_an_engine_only_where_it_is_told() -> None:
    assert settings.from_env({}).metrics_port == env.MetricsPort(9528, is_asked_for=False)
    assert engine_settings.from_env({}).metrics_port is None
    asked_for = {"MODELENGINE_METRICS_PORT": "9528"}
    assert settings.from_env(asked_for).metrics_port == env.MetricsPort(9528)
    assert engine_settings.from_env(asked_for).metrics_port == env.MetricsPort(9528)
    assert settings.from_env({"MODELENGINE_METRICS_PORT": "off"}).metrics_port is None


def test_an_engine_that_listens_on_all_interfaces_registers_an_address_that_can_be_dialled() -> None:
    open_to_all = {"MODELENGINE_LISTEN_HOST": "0.0.0.0"}
    assert engine_settings.from_env(open_to_all).advertise_host not in ("0.0.0.0", "")
    assert engine_settings.from_env({**open_to_all, "MODELENGINE_ADVERTISE_HOST": "gpu-1"}).advertise_host == "gpu-1"
    assert engine_settings.from_env({}).advertise_host == "127.0.0.1"


def test_an_empty_value_counts_as_not_set() -> None:
    assert settings.from_env({"MODELENGINE_LISTEN_PORT": " ", "MODELENGINE_LEASE_S": ""}) == settings.from_env({})


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("MODELENGINE_LISTEN_PORT", "http", "a whole number from 0 to 65535, got 'http'"),
        ("MODELENGINE_LISTEN_PORT", "65536", "a whole number from 0 to 65535"),
        ("MODELENGINE_LISTEN_PORT", "-1", "a whole number from 0 to 65535"),
        ("MODELENGINE_LEASE_S", "11", "a number from 0.3 to 10, got '11'"),
        ("MODELENGINE_LEASE_S", "nan", "a number from 0.3 to 10"),
        ("MODELENGINE_LEASE_S", "soon", "a number from 0.3 to 10"),
        ("MODELENGINE_GRACE_S", "-1", "a number from 0 to 3600"),
        ("MODELENGINE_FIRST_BYTE_S", "0", "a number from 0.1 to 86400"),
        ("MODELENGINE_BETWEEN_BYTES_S", "inf", "a number from 0.1 to 86400"),
        ("MODELENGINE_ANSWER_S", "never", "a number from 0.1 to 86400"),
        ("MODELENGINE_QUEUE_LENGTH", "-1", "a whole number from 0 to 100000"),
        ("MODELENGINE_QUEUE_S", "3601", "a number from 0 to 3600"),
        ("MODELENGINE_LOG_LEVEL", "loud", "one of DEBUG, INFO, WARNING, ERROR, got 'LOUD'"),
        ("MODELENGINE_EXIT_WITH_STDIN", "yes", "one of 0, 1"),
        ("MODELENGINE_LOG_FORMAT", "xml", "one of text, json, got 'xml'"),
        ("MODELENGINE_METRICS_PORT", "65536", "a port from 0 to 65535 or off, got '65536'"),
        ("MODELENGINE_METRICS_PORT", "-1", "a port from 0 to 65535 or off"),
        ("MODELENGINE_METRICS_PORT", "²", "a port from 0 to 65535 or off"),
    ],
)
def test_a_bad_value_names_the_variable_and_what_is_allowed(name: str, value: str, allowed: str) -> None:
    with pytest.raises(errors.InvalidRequest) as failure:
        settings.from_env({name: value})
    assert f"{name}: must be {allowed}" in failure.value.message


def test_a_server_started_by_up_only_warns_unless_told_otherwise() -> None:
    assert env.log_level({env.EXIT_WITH_STDIN: "1"}) == "WARNING"
    assert env.log_level({env.EXIT_WITH_STDIN: "1", "MODELENGINE_LOG_LEVEL": "info"}) == "INFO"


def test_an_engine_that_could_never_find_its_name_server_does_not_start() -> None:
    with pytest.raises(errors.InvalidRequest, match=r"MODELENGINE_HOST: expected HOST, HOST:PORT .*got 'names:port'"):
        engine_settings.from_env({"MODELENGINE_HOST": "names:port"})
    assert engine_settings.from_env({"MODELENGINE_HOST": "names"}).nameserver == "http://names:9527"
    assert engine_settings.from_env({}).nameserver == ""
