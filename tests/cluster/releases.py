"""A release of our chart on the test node, with the images of this checkout; and what tests ask of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.harness import images, processes
from cluster.harness.control_plane import CommandFailed, ControlPlane
from modelengine import kinds

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "modelengine"
# What a small model's engine needs; without it the scheduler counts nothing.
SMALL = {"requests": {"cpu": "50m", "memory": "300Mi"}, "limits": {"memory": "3Gi"}}
# An engine imports torch before it is ready, on two cores that others use too.
READY_S = 240


@dataclass(frozen=True)
class Release:
    """An installed chart. `namespace` has the operator and the front door."""

    plane: ControlPlane
    namespace: str
    name: str = "modelengine"

    @property
    def address(self) -> str:
        """The front door's, as the test process reaches it."""
        service = self.get("service", self.name, self.namespace)
        return f"{service['spec']['clusterIP']}:{service['spec']['ports'][0]['port']}"

    @property
    def host(self) -> str:
        """The front door's, as pods write it."""
        return f"{self.name}.{self.namespace}:9527"

    def get(self, kind: str, name: str, namespace: str) -> Any:
        return json.loads(self.plane.kubectl("get", kind, name, "-n", namespace, "-o", "json"))

    def find(self, kind: str, name: str, namespace: str) -> Any:
        """None when there is no such object."""
        try:
            return self.get(kind, name, namespace)
        except CommandFailed as failure:
            if "not found" in failure.output.lower():
                return None
            raise

    def pods(self, engine: str, namespace: str) -> list[Any]:
        selector = kinds.as_selector(kinds.selector(engine))
        return list(
            json.loads(self.plane.kubectl("get", "pods", "-n", namespace, "-l", selector, "-o", "json"))["items"]
        )

    def registry(self, namespace: str) -> dict[str, Any]:
        """The registry's values by key."""
        found = self.find("configmap", kinds.REGISTRY_NAME, namespace)
        return {key: json.loads(value) for key, value in (found or {}).get("data", {}).items()}

    def services(self, namespace: str) -> list[Any]:
        """All replicas that the registry lists."""
        return [service for entry in self.registry(namespace).values() for service in entry["services"]]

    def apply(self, name: str, namespace: str, source: str = "demo://", **spec: Any) -> None:
        model = {"source": source, **spec.pop("model", {})}
        manifest: dict[str, object] = {
            "apiVersion": kinds.API_VERSION,
            "kind": kinds.KIND,
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"model": model, "resources": SMALL, **spec},
        }
        self.plane.apply(manifest)

    def wait(self, name: str, namespace: str, what: str = "condition=Ready", timeout_s: float = READY_S) -> None:
        try:
            self.plane.kubectl(
                "wait",
                f"me/{name}",
                f"--for={what}",
                "-n",
                namespace,
                f"--timeout={timeout_s:.0f}s",
                timeout_s=timeout_s + 10,
            )
        except CommandFailed as failure:
            raise AssertionError(f"{failure}\n{self.story(name, namespace)}") from failure

    def until_reason(self, name: str, namespace: str, begins: str, timeout_s: float = 60) -> str:
        """Waits for a reason in the list that begins so; gives the whole of it."""
        reason = ""

        def seen() -> bool:
            nonlocal reason
            reason = (self.find("me", name, namespace) or {}).get("status", {}).get("reason", "")
            return bool(reason.startswith(begins))

        try:
            processes.until(seen, timeout_s, f"reason {begins}", pause_s=0.2)
        except processes.Failed as late:
            raise AssertionError(f"{late}; it is {reason!r}\n{self.story(name, namespace)}") from late
        return reason

    def message(self, name: str, namespace: str, condition: str = "Ready") -> str:
        conditions = self.get("me", name, namespace)["status"]["conditions"]
        return str(next(c["message"] for c in conditions if c["type"] == condition))

    def last_words_of(self, pod: str, namespace: str, timeout_s: float = 120) -> str:
        """What a pod that runs to its end has printed, once it has succeeded."""
        phase = ""

        def over() -> bool:
            nonlocal phase
            phase = self.get("pod", pod, namespace)["status"].get("phase", "")
            return phase in ("Succeeded", "Failed")

        processes.until(over, timeout_s, f"the end of pod {pod}", pause_s=0.5)
        said = self.plane.kubectl("logs", pod, "-n", namespace)
        assert phase == "Succeeded", said
        return said

    def story(self, name: str, namespace: str) -> str:
        """What a person would look at when a ModelEngine does not come up."""
        asked = [
            ("describe", f"me/{name}", "-n", namespace),
            ("get", "pods,deployments", "-n", namespace, "-o", "wide"),
            ("logs", "-n", self.namespace, f"deploy/{self.name}-operator", "--tail=30"),
        ]
        return "\n".join(self._tried(*words) for words in asked)

    def _tried(self, *words: str) -> str:
        try:
            return self.plane.kubectl(*words)
        except CommandFailed as failure:
            return str(failure)


def values(**more: str) -> list[str]:
    """The settings that make the chart use the images of this checkout."""
    chosen = {f"{prefix}pullPolicy": "Never" for prefix in ("image.", "engine.image.")}
    for prefix, image in (("image.", images.OPERATOR), ("engine.image.", images.ENGINE)):
        repository, tag = image.reference.rsplit(":", 1)
        chosen |= {f"{prefix}repository": repository, f"{prefix}tag": tag}
    return [word for key, value in {**chosen, **more}.items() for word in ("--set", f"{key}={value}")]


@contextmanager
def installed(plane: ControlPlane, namespace: str, **more: str) -> Iterator[Release]:
    """`helm install --wait`, and uninstalled at the end, also where a test has done that already."""
    plane.create_namespace(namespace)
    # An earlier release of the session has left its CRD.
    waiting = ("--wait", "--timeout=180s", "--take-ownership")
    plane.helm("install", "modelengine", CHART, "-n", namespace, *waiting, *values(**more))
    try:
        yield Release(plane, namespace)
    finally:
        plane.helm("uninstall", "modelengine", "-n", namespace, "--ignore-not-found", "--timeout=180s")
        plane.kubectl("delete", "namespace", namespace, "--wait=false")
