"""The front door's settings in a cluster: which registries it reads, and what a wrong value is told."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from modelengine import errors
from modelengine_gateway.settings import RegistryKind, from_env


def test_names_are_in_memory_unless_configmaps_are_asked_for() -> None:
    assert from_env({}).registry is RegistryKind.MEMORY
    assert from_env({"MODELENGINE_REGISTRY": "configmaps"}).registry is RegistryKind.CONFIG_MAPS


@pytest.mark.parametrize(
    ("given", "namespaces"),
    [("", ()), (" , ", ()), ("a", ("a",)), ("team-b, a ,team-b,", ("team-b", "a")), ("x" * 63, ("x" * 63,))],
)
def test_namespaces_are_a_comma_list_and_none_is_all(given: str, namespaces: tuple[str, ...]) -> None:
    assert from_env({"MODELENGINE_NAMESPACES": given}).namespaces == namespaces


def test_the_own_namespace_is_read() -> None:
    assert from_env({"MODELENGINE_NAMESPACE": "models"}) == replace(from_env({}), own_namespace="models")


@pytest.mark.parametrize("bad", ["Team", "a b", "a/b", "-a", "a-", "x" * 64, "a,../x", "a;b", "*"])
def test_what_is_no_namespace_stops_the_start(bad: str) -> None:
    with pytest.raises(errors.InvalidRequest, match="MODELENGINE_NAMESPACES: must be namespaces with commas between"):
        from_env({"MODELENGINE_NAMESPACES": bad})


def test_a_registry_of_another_kind_stops_the_start() -> None:
    with pytest.raises(errors.InvalidRequest, match="MODELENGINE_REGISTRY: must be one of memory, configmaps"):
        from_env({"MODELENGINE_REGISTRY": "etcd"})


@pytest.mark.parametrize(("kind", "loads_it"), [("memory", "False"), ("configmaps", "True")])
def test_only_a_front_door_of_a_cluster_pays_for_its_client(kind: str, loads_it: str) -> None:
    code = (
        "import os, sys; from modelengine_gateway import __main__, app, settings;"
        "app.create(settings.from_env(os.environ)); print('kubernetes' in sys.modules)"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "MODELENGINE_REGISTRY": kind}, capture_output=True, text=True
    )
    assert told.stdout.strip() == loads_it, told.stderr
