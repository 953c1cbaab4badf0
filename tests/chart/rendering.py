"""The chart as helm renders it: helm, and the choices of values that the tests of this folder look at."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from charts import render

Object = dict[str, Any]
# What a test sets, by groups that bring out each branch of the templates.
CHOICES: dict[str, tuple[str, ...]] = {
    "defaults": (),
    "namespaces": ("watchNamespaces={team-a,team-b}",),
    "all on": (
        "image.pullSecrets={one,two}",
        "image.digest=sha256:" + "a" * 64,
        "engine.image.digest=sha256:" + "b" * 64,
        "engine.allowedImages={registry.local/*,other:1}",
        "hub.endpoint=http://mirror.local:8080",
        "nodeSelector.disk=fast",
        "tolerations[0].operator=Exists",
        "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0]."
        "matchExpressions[0].key=a,affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution."
        "nodeSelectorTerms[0].matchExpressions[0].operator=Exists",
        "priorityClassName=high",
        "podLabels.team=ml",
        "podAnnotations.note=x",
        "frontDoor.service.annotations.a=b",
        "frontDoor.allowedHosts={chat.example.com,*.models.example.com}",
        "frontDoor.corsOrigins={https://app.example.com}",
        "frontDoor.maxConnections=500",
        "frontDoor.queue.length=100000",
        "frontDoor.queue.seconds=20",
        "frontDoor.deadlines.firstByteSeconds=30",
        "frontDoor.deadlines.betweenBytesSeconds=15",
        "frontDoor.deadlines.answerSeconds=86400",
        "apiKeys.existingSecret=keys",
        "apiKeys.entry=keys.yaml",
        "test.existingSecret=test-key",
        "networkPolicy.clients[0].podSelector.matchLabels.app=web",
        "networkPolicy.directAccess=false",
        "networkPolicy.scrapers[0].namespaceSelector.matchLabels.role=monitoring",
        "metrics.podMonitor.enabled=true",
        "metrics.podMonitor.labels.release=prometheus",
        "metrics.dashboard.enabled=true",
        "logLevel=DEBUG",
        "logFormat=text",
        "test.model=demo",
    ),
    "all off": (
        "watchNamespaces={team-a}",
        "crds.install=false",
        "rbac.aggregate=false",
        "networkPolicy.enabled=false",
        "uninstall.stopEngines=false",
        "frontDoor.replicas=null",
        "apiKeys.existingSecret=keys",
    ),
}


class Helm:
    def __init__(self, path: Path) -> None:
        self.path = path

    def run(self, *words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run([str(self.path), *map(str, words)], capture_output=True, text=True, timeout=120)

    def text(self, *sets: str, release: str = "modelengine", namespace: str = "home", more: Sequence[str] = ()) -> str:
        chosen = [word for assignment in sets for word in ("--set", assignment)]
        done = self.run("template", release, render.CHART, "--namespace", namespace, *chosen, *more)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def template(self, *sets: str, release: str = "modelengine", namespace: str = "home") -> list[Object]:
        return [obj for obj in yaml.safe_load_all(self.text(*sets, release=release, namespace=namespace)) if obj]

    def refusal(self, *sets: str) -> str:
        """What helm says to values that it does not take."""
        chosen = [word for assignment in sets for word in ("--set-json", assignment)]
        done = self.run("template", "modelengine", render.CHART, *chosen)
        assert done.returncode != 0, f"{sets} were accepted"
        return done.stderr
