"""The chart as helm renders it, without a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from chart.rendering import CHOICES, Helm, Object
from cluster.harness import binaries


@pytest.fixture(scope="session")
def helm() -> Helm:
    return Helm(binaries.find(binaries.HELM))


@pytest.fixture(scope="session")
def rendered(helm: Helm) -> dict[str, list[Object]]:
    """All objects, by the name of the choice."""
    return {name: helm.template(*sets) for name, sets in CHOICES.items()}


@pytest.fixture(scope="session")
def pods(rendered: dict[str, list[Object]]) -> Callable[[str], Iterator[tuple[str, Object]]]:
    """pods(choice) -> each pod or pod template: the name of its object, and metadata with spec."""

    def of(choice: str) -> Iterator[tuple[str, Object]]:
        for obj in rendered[choice]:
            if obj["kind"] == "Pod":
                yield obj["metadata"]["name"], obj
            elif "template" in obj.get("spec", {}):
                yield obj["metadata"]["name"], obj["spec"]["template"]

    return of
