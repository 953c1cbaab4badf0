"""What helm prints after an installation: the next three commands, with the names of this release in them."""

from __future__ import annotations

import re
import subprocess

import pytest
import yaml
from charts import render

from chart.rendering import Helm
from modelengine import kinds


def notes(helm: Helm, *sets: str, release: str = "modelengine", namespace: str = "home") -> str:
    chosen = [word for assignment in sets for word in ("--set", assignment)]
    words = ["install", release, render.CHART, "-n", namespace, "--dry-run=client", "--hide-notes=false", *chosen]
    done = helm.run(*words)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("NOTES:\n", 1)[1]


@pytest.mark.parametrize(
    ("sets", "release", "home", "example", "front_door"),
    [
        ((), "modelengine", "home", "home", "modelengine.home:9527"),
        (("watchNamespaces={team-a,team-b}",), "modelengine", "home", "team-a", "modelengine.home:9527"),
        (("frontDoor.service.port=80",), "chat", "default", "default", "chat-modelengine.default:80"),
    ],
)
def test_the_three_commands_have_the_names_of_this_release(
    helm: Helm, sets: tuple[str, ...], release: str, home: str, example: str, front_door: str
) -> None:
    text = notes(helm, *sets, release=release, namespace=home)
    commands = [line for line in text.splitlines() if re.match("(kubectl|modelengine) ", line)]
    service = front_door.split(".")[0]
    assert commands == [
        "kubectl apply -f - <<EOF",
        f"kubectl wait -n {example} modelengine/demo --for=condition=Ready --timeout=5m",
        f'kubectl exec -n {home} deploy/{service}-front-door -- modelengine run demo "hello"',
        f"kubectl port-forward -n {home} service/{service} 9527:{front_door.split(':')[1]}",
        'modelengine run demo "hello"',
    ]
    assert f"MODELENGINE_HOST={front_door}" in text
    # As somebody would paste it, into a shell whose kubectl shows what it is given.
    pasted = text[text.index("kubectl apply") : text.index("\n2. ")]
    shown = subprocess.run(["sh", "-c", f"kubectl() {{ cat; }}\n{pasted}"], capture_output=True, text=True, check=True)
    applied = yaml.safe_load(shown.stdout)
    assert (applied["apiVersion"], applied["kind"]) == (kinds.API_VERSION, kinds.KIND)
    assert applied["metadata"]["namespace"] == example


def test_they_fit_a_terminal_and_say_what_was_left_out(helm: Helm) -> None:
    text = notes(helm)
    assert max(map(len, text.splitlines())) <= 120
    assert "leaves the engines running" not in text
    assert "all namespaces" in text
    text = notes(helm, "uninstall.stopEngines=false", "watchNamespaces={team-a,team-b}")
    assert "leaves the engines running" in text
    assert "team-a, team-b" in text
