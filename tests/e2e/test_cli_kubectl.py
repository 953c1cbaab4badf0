"""The verbs against a cluster: a kubectl that plays one, and behind its port-forward a real front door."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import windows
from callers import until
from fake_kubectl import FakeKubectl
from fakes import FakeEngine
from modelengine import NameServerClient, ServerInfo
from servers import running
from windows import modelengine

Serve = Callable[..., str]

SERVICE = {
    "metadata": {"namespace": "me", "name": "modelengine"},
    "spec": {"ports": [{"name": "nameserver", "port": 9527}]},
}
ENGINE = {
    "metadata": {"name": "chat", "namespace": "team", "creationTimestamp": "2026-01-01T00:00:00Z"},
    "spec": {"model": {"name": "Org/Chat-1", "source": "demo://"}, "replicas": 2},
    "status": {
        "servedName": "Org/Chat-1",
        "readyReplicas": 1,
        "reason": "Unschedulable",
        "conditions": [
            {"type": "Ready", "status": "False", "reason": "Unschedulable", "message": "no node has nvidia.com/gpu"}
        ],
    },
}
POD = {
    "metadata": {
        "name": "chat-engine-a",
        "namespace": "team",
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "labels": {"modelengine.dev/engine": "chat"},
        "annotations": {"modelengine.dev/served-name": "Org/Chat-1"},
    },
    "spec": {"nodeName": "gpu-1"},
    "status": {
        "phase": "Running",
        "podIP": "10.0.0.1",
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [{"name": "engine", "restartCount": 0, "state": {"running": {}}}],
    },
}
FORBIDDEN = 'Error from server (Forbidden): services is forbidden: User "u" cannot list resource "services"\n'


@pytest.fixture
def kubectl(tmp_path: Path) -> FakeKubectl:
    kubectl = FakeKubectl(tmp_path / "bin")
    kubectl.items(["services"], SERVICE)
    kubectl.items(["modelengines"], ENGINE)
    kubectl.items(["pods"], POD)
    return kubectl


def call(kubectl: FakeKubectl, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return modelengine(*arguments, **{**kubectl.env, **env})


def words(kubectl: FakeKubectl, verb: str) -> list[list[str]]:
    """The calls of that verb."""
    return [call for call in kubectl.calls if verb in call]


def test_the_engines_of_a_cluster_are_listed_with_why_they_are_not_ready(kubectl: FakeKubectl) -> None:
    rows = [line.split() for line in call(kubectl, "-n", "team", "ls").stdout.splitlines()]
    assert rows[0] == ["NAME", "MODEL", "READY", "REPLICAS", "REASON", "AGE"]
    assert rows[1][:5] == ["chat", "Org/Chat-1", "False", "1/2", "Unschedulable"]
    wide = call(kubectl, "ls", "-A", "-o", "wide").stdout
    assert wide.startswith("NAMESPACE")
    assert "no node has nvidia.com/gpu" in wide
    assert call(kubectl, "-n", "team", "ls", "-o", "name").stdout == "Org/Chat-1\n"
    assert [found[-1] for found in words(kubectl, "get")] == ["--request-timeout=10s"] * 3
    assert ["--namespace=team" in found for found in words(kubectl, "get")] == [True, False, True]


def test_the_options_stand_before_or_behind_the_verb_and_reach_kubectl(kubectl: FakeKubectl) -> None:
    for arguments in (["--context", "c", "--kubeconfig", "k", "ls"], ["ls", "--kubeconfig", "k", "--context", "c"]):
        assert call(kubectl, *arguments).returncode == 0
    assert [found[:2] for found in kubectl.calls] == [["--context=c", "--kubeconfig=k"]] * 2


def test_replicas_are_listed_with_their_pods_and_what_the_engines_say(kubectl: FakeKubectl) -> None:
    info = {"device": "cuda", "dtype": "bfloat16", "load": {"running": 3, "waiting": 1}}
    kubectl.answer(["create", "/pods/http:chat-engine-a:8000/proxy/engine/info"], {"state": "ok", "msg": info})
    rows = [line.split() for line in call(kubectl, "-n", "team", "ps").stdout.splitlines()]
    assert rows[0] == ["NAME", "POD", "NODE", "STATE", "DEVICE", "RUNNING", "WAITING", "AGE"]
    assert rows[1][:7] == ["Org/Chat-1", "chat-engine-a", "gpu-1", "Running", "cuda", "3", "1"]


def test_whoever_may_not_ask_the_pods_still_sees_them(kubectl: FakeKubectl) -> None:
    kubectl.answer(["create", "--raw"], err=FORBIDDEN, code=1)
    done = call(kubectl, "-n", "team", "ps")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1].split()[:7] == ["Org/Chat-1", "chat-engine-a", "gpu-1", "Running", *"---"]


def test_a_chat_goes_through_a_port_forward_that_ends_with_it(kubectl: FakeKubectl, serve: Serve) -> None:
    kubectl.forwards_to(int(serve(FakeEngine()).rpartition(":")[2]))
    done = call(kubectl, "--context", "c", "run", "demo", "hi")
    assert (done.returncode, done.stdout) == (0, "Hello world!\n"), done.stderr
    (forward,) = words(kubectl, "port-forward")
    assert {"--context=c", "--namespace=me", "--address=127.0.0.1", "service/modelengine", ":9527"} <= set(forward)
    assert kubectl.forwarders == []


def test_a_front_door_that_does_not_answer_is_said_with_where_to_look(kubectl: FakeKubectl) -> None:
    kubectl.forwards_to(9)
    done = call(kubectl, "-n", "team", "run", "demo", "hi")
    assert done.returncode == 1
    assert done.stderr.startswith("error: the front door me/modelengine does not answer through the port-forward")
    assert "kubectl get pods -n me -l app.kubernetes.io/name=modelengine" in done.stderr
    assert "modelengine up" not in done.stderr
    assert kubectl.forwarders == []


def test_a_port_forward_that_does_not_come_about_is_said_at_once(kubectl: FakeKubectl) -> None:
    kubectl.answer(["port-forward"], err="error: timed out waiting for the condition\n", code=1)
    done = call(kubectl, "-n", "team", "run", "demo", "hi")
    assert done.returncode == 1
    assert "no way to the front door me/modelengine (timed out waiting for the condition)" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_port_forward_ends_with_us_however_we_end(
    kubectl: FakeKubectl, serve: Serve, number: signal.Signals
) -> None:
    kubectl.forwards_to(int(serve().rpartition(":")[2]))
    with windows.opened([*windows.COMMAND, "-n", "team", "wait", "x", "--timeout", "60"], **kubectl.env) as window:
        assert until(lambda: len(kubectl.forwarders) == 1, 20)
        (pid,) = kubectl.forwarders
        window.process.send_signal(number)
        # Python ends by SIGINT itself where that came amid an `exec`, as dataclasses have it; a shell calls both 130.
        assert window.end() in ((130, -number) if number is signal.SIGINT else (-number,)), window.err
        assert until(lambda: not Path(f"/proc/{pid}").exists(), 5)


def test_a_port_forward_that_breaks_is_made_again_on_the_same_port(kubectl: FakeKubectl, serve: Serve) -> None:
    host = serve()
    port = int(host.rpartition(":")[2])
    kubectl.forwards_to(port)
    with windows.opened([*windows.COMMAND, "-n", "team", "wait", "demo", "--timeout", "60"], **kubectl.env) as window:
        assert until(lambda: len(kubectl.forwarders) == 1, 20)
        (kubectl.folder / f"forward-{kubectl.forwarders[0]}").unlink()
        assert until(lambda: len(words(kubectl, "port-forward")) == 2, 20)
        assert f"{port}:9527" in words(kubectl, "port-forward")[1]
        with running(FakeEngine().app(), grace_s=0) as engine_port, NameServerClient(host) as names:
            names.register(ServerInfo("demo", "127.0.0.1", engine_port))
            assert window.end() == 0
    assert kubectl.forwarders == []


def test_a_name_that_is_not_served_in_time_is_said_with_the_cluster_s_reason(
    kubectl: FakeKubectl, serve: Serve
) -> None:
    kubectl.forwards_to(int(serve().rpartition(":")[2]))
    done = call(kubectl, "-n", "team", "wait", "Org/Chat-1", "--timeout", "0.1")
    assert done.returncode == 4
    assert "ModelEngine team/chat: Unschedulable: no node has nvidia.com/gpu" in done.stderr


def test_without_a_front_door_and_with_several_it_is_said_what_to_do(kubectl: FakeKubectl) -> None:
    other = {**SERVICE, "metadata": {"namespace": "other", "name": "door"}}
    kubectl.items(["services"], SERVICE, other)
    done = call(kubectl, "--context", "c", "run", "demo", "hi")
    assert done.returncode == 2
    assert "several front doors: me/modelengine, other/door; choose one with --front-door-namespace" in done.stderr
    kubectl.items(["services"])
    done = call(kubectl, "--context", "c", "run", "demo", "hi")
    assert done.returncode == 1
    assert "no front door in this cluster; helm install modelengine" in done.stderr


def test_whoever_has_rights_in_one_namespace_alone_finds_the_front_door_there(
    kubectl: FakeKubectl, serve: Serve
) -> None:
    kubectl.forwards_to(int(serve(FakeEngine()).rpartition(":")[2]))
    kubectl.answer(["get", "services", "--all-namespaces"], err=FORBIDDEN, code=1)
    assert call(kubectl, "-n", "me", "run", "demo", "hi").stdout == "Hello world!\n"
    assert call(kubectl, "--front-door-namespace", "me", "run", "demo", "hi").stdout == "Hello world!\n"
    last = words(kubectl, "services")[-1]
    assert "--namespace=me" in last


def test_logs_are_kubectl_s_own_for_the_pods_of_the_engine(kubectl: FakeKubectl) -> None:
    kubectl.answer(["logs"], "[pod/chat-engine-a/engine] running!\n", code=3)
    done = call(kubectl, "-n", "team", "logs", "Org/Chat-1", "-f", "--tail", "5")
    assert (done.returncode, done.stdout) == (3, "[pod/chat-engine-a/engine] running!\n")
    (asked,) = words(kubectl, "logs")
    wanted = {
        "--namespace=team",
        "--selector=app.kubernetes.io/name=modelengine-engine,modelengine.dev/engine=chat",
        "--follow=true",
        "--previous=false",
        "--tail=5",
        "--prefix",
        "--all-containers",
    }
    assert wanted <= set(asked)


def test_an_engine_without_a_pod_that_has_begun_says_why_instead_of_logs(kubectl: FakeKubectl) -> None:
    kubectl.items(["pods"])
    done = call(kubectl, "-n", "team", "logs", "chat")
    assert done.returncode == 1
    assert done.stderr == "error: no pod of chat has started: no node has nvidia.com/gpu\n"


def test_doctor_looks_at_the_cluster_and_fails_where_something_is_missing(kubectl: FakeKubectl) -> None:
    kubectl.answer(["version", "--output=json"], {"serverVersion": {"gitVersion": "v1.34.4"}})
    kubectl.answer(["version", "--client"], {"clientVersion": {"gitVersion": "v1.33.0"}})
    kubectl.answer(["config", "view"], {"clusters": [{"cluster": {"server": "https://c:6443"}}]})
    kubectl.answer(["--raw=/apis/modelengine.dev"], {"versions": [{"version": "v1alpha1"}]})
    kubectl.items(["deployments"])
    kubectl.answer(["can-i"], "yes\n")
    kubectl.answer(["nodes"], err=FORBIDDEN, code=1)
    done = call(kubectl, "-n", "team", "doctor", "-o", "json")
    assert done.returncode == 1
    states: dict[str, Any] = {record["name"]: record["state"] for record in json.loads(done.stdout)}
    assert states == {
        "kubectl": "ok",
        "cluster": "ok",
        "definition": "ok",
        "operator": "FAIL",
        "front door": "FAIL",
        "right to see models": "ok",
        "right to name models": "ok",
        "right to chat from here": "ok",
        "GPUs": "warn",
        "engines": "warn",
    }


def test_a_cluster_that_does_not_answer_ends_the_doctor_s_round(kubectl: FakeKubectl) -> None:
    kubectl.answer(["config", "view"], {"clusters": [{"cluster": {"server": "https://c:6443"}}]})
    kubectl.answer(["version", "--output=json"], err="Unable to connect to the server: no such host\n", code=1)
    kubectl.answer(["version", "--client"], {"clientVersion": {"gitVersion": "v1.33.0"}})
    done = call(kubectl, "-n", "team", "doctor", "-o", "json")
    assert done.returncode == 1
    assert [record["name"] for record in json.loads(done.stdout)] == ["kubectl", "cluster"]


def test_a_kubectl_that_is_not_there_is_said_with_what_else_would_do(tmp_path: Path) -> None:
    for verb in (["ls"], ["run", "demo", "hi"], ["logs", "demo"]):
        done = modelengine("-n", "team", *verb, PATH=str(tmp_path))
        assert done.returncode == 1
        assert done.stderr == (
            "error: kubectl can't be run (No such file or directory); put it on the PATH, "
            "or give an address with --host\n"
        )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--host", "x", "ls", "-n", "team"], "--host is an address; --context, -n and --kubeconfig are of a cluster"),
        (["--host", "x", "logs", "chat"], "logs are of a cluster, --host is not"),
        (["-n", "team", "demo", "--up"], "a cluster is of a running system; --up starts its own"),
        (["-n", "team", "doctor", "--online"], "the engines of a cluster ask it from there"),
    ],
)
def test_what_does_not_go_together_is_wrong_usage(kubectl: FakeKubectl, arguments: list[str], says: str) -> None:
    done = call(kubectl, *arguments)
    assert done.returncode == 2
    assert says in done.stderr


def test_as_a_plugin_it_means_the_current_cluster_and_calls_itself_so(kubectl: FakeKubectl) -> None:
    def plugin(*arguments: str) -> subprocess.CompletedProcess[str]:
        code = "from modelengine.cli.main import run_as_plugin; run_as_plugin()"
        env = {**os.environ, **kubectl.env, "MODELENGINE_HOST": "127.0.0.1:9"}
        argv = [sys.executable, "-c", code, *arguments]
        return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, check=False)

    assert plugin("ls", "-n", "team").stdout.splitlines()[1].split()[0] == "chat"
    assert plugin("ls", "--help").stdout.startswith("Usage: kubectl modelengine ls ")
    assert "(see 'kubectl modelengine ls --help')" in plugin("ls", "--nope").stderr
    listed = plugin().stdout.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in listed] == ["run", "ls", "ps", "wait", "logs", "demo", "doctor", "version"]
