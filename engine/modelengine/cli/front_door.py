"""Which of a cluster's Services is the front door."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelengine import errors
from modelengine.cli import exits, kubectl
from modelengine.cli.kubectl import Kubectl
from modelengine.kinds import LABEL_APP, LABEL_COMPONENT, as_selector
from modelengine.protocol import DEFAULT_PORT

APP = "modelengine"
PORT_NAME = "nameserver"
SELECTOR = as_selector({LABEL_APP: APP, LABEL_COMPONENT: "front-door"})
OPERATOR_SELECTOR = as_selector({LABEL_APP: APP, LABEL_COMPONENT: "operator"})


@dataclass(frozen=True, slots=True)
class Service:
    namespace: str
    name: str
    port: int

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def find(asking: Kubectl) -> Service:
    """Raises Unavailable where there is none, InvalidRequest where it is not clear which."""
    cluster = asking.cluster
    if cluster.front_door_namespace is not None:
        return choose(_listed(asking, f"--namespace={cluster.front_door_namespace}"), None)
    try:
        listed = _listed(asking, "--all-namespaces")
    except kubectl.Forbidden:
        # Whoever has rights in one namespace alone may still find a front door there.
        listed = _listed(asking, *asking.in_namespace())
    return choose(listed, cluster.namespace)


def _listed(asking: Kubectl, *where: str) -> list[dict[str, Any]]:
    return asking.items("services", *where, f"--selector={SELECTOR}")


def choose(services: Sequence[Mapping[str, Any]], preferred: str | None) -> Service:
    """The only one, or the only one of the preferred namespace."""
    found = [_service(service) for service in services]
    near = [service for service in found if service.namespace == preferred]
    candidates = near or found
    if not candidates:
        raise errors.Unavailable(f"no front door in this cluster; {exits.INSTALL}")
    if len(candidates) > 1:
        names = ", ".join(sorted(map(str, candidates)))
        raise errors.InvalidRequest(f"several front doors: {names}; choose one with --front-door-namespace")
    return candidates[0]


def _service(service: Mapping[str, Any]) -> Service:
    ports = {port.get("name"): port["port"] for port in service["spec"].get("ports", ())}
    metadata = service["metadata"]
    return Service(metadata["namespace"], metadata["name"], ports.get(PORT_NAME, DEFAULT_PORT))
