"""The front door over a real API server, with the rights that the chart gives it and no others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

import processes
from callers import ask, engine_process, until
from cluster.harness.audit import READS
from cluster.harness.control_plane import CommandFailed, ControlPlane
from cluster.harness.processes import answers
from fakes import FakeEngine
from modelengine import NameServerClient, ServerInfo, kinds
from modelengine.registry_configmap import Entry, Service, encode, encode_key
from servers import running

ACCOUNT = "front-door"
ONE = ServerInfo("demo", "10.0.0.1", 8000)
TWO = ServerInfo("demo", "10.0.0.2", 8000)
# How soon a change is to be seen.
SEEN_S = 1.0
# The longest pause between two attempts of who waits for an API server, and its own start.
BACK_S = 15.0


def registry(*infos: ServerInfo) -> dict[str, str]:
    return encode([Entry("demo", "chat", "engine", "u", tuple(Service(info, info.url, "pod") for info in infos))])


def rights(namespace: str, *verbs: str) -> list[dict[str, Any]]:
    """Of the front door's account in one namespace, as the chart grants them."""
    meta = {"name": ACCOUNT, "namespace": namespace}
    rule = {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [kinds.REGISTRY_NAME], "verbs": verbs}
    rbac = "rbac.authorization.k8s.io"
    return [
        {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": meta, "rules": [rule]},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "metadata": meta,
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": ACCOUNT},
            "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": namespace}],
        },
    ]


class Cluster:
    """A namespace with the front door's account in it, and its registry."""

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self.plane = plane
        self.namespace = namespace
        account = {"name": ACCOUNT, "namespace": namespace}
        plane.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})
        self.grant("get", "list", "watch")
        self.kubeconfig = plane.kubeconfig_of(ACCOUNT, namespace)

    def grant(self, *verbs: str) -> None:
        self.plane.apply(*rights(self.namespace, *verbs))

    def write(self, *infos: ServerInfo, **more: str) -> None:
        data = {**registry(*infos), **more}
        meta = {"name": kinds.REGISTRY_NAME, "namespace": self.namespace}
        self.plane.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data})

    def kubectl(self, *words: str) -> str:
        return self.plane.kubectl("-n", self.namespace, *words)


@pytest.fixture
def cluster(control_plane: ControlPlane, namespace: str, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    cluster = Cluster(control_plane, namespace)
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    return cluster


@contextmanager
def front_door(folder: Path, *namespaces: str) -> Iterator[str]:
    """A process of its own, ready; gives its `host:port`."""
    port = processes.free_port()
    with processes.front_door(folder, port, registry="configmaps", namespaces=",".join(namespaces)) as server:
        door = f"127.0.0.1:{port}"
        assert until(lambda: ask(door, "/ready", method="GET").status == 200, 10), server.output
        yield door
        assert "Traceback" not in server.output


@pytest.fixture
def door(cluster: Cluster, tmp_path: Path) -> Iterator[str]:
    with front_door(tmp_path, cluster.namespace) as door:
        yield door


def listed(door: str) -> list[ServerInfo]:
    with NameServerClient(door) as names:
        return sorted(names.get_services("chat", "demo"), key=lambda info: info.url)


def seen(door: str, *infos: ServerInfo, within_s: float = SEEN_S) -> bool:
    return until(lambda: listed(door) == list(infos), within_s)


def chat(door: str) -> str:
    body = {"model": "demo", "messages": [{"role": "user", "content": "hi"}], "stream": False}
    reply = ask(door, "/engine/inference", body)
    assert reply.status == 200, reply.body
    return str(reply.msg["content"])


def test_each_change_of_the_registry_is_seen_within_a_second(cluster: Cluster, door: str) -> None:
    for infos in ([ONE], [ONE, TWO], [TWO]):
        cluster.write(*infos)
        assert seen(door, *infos)
    cluster.kubectl("patch", "configmap", kinds.REGISTRY_NAME, "--type=json", '-p=[{"op":"remove","path":"/data"}]')
    assert seen(door)


def test_what_somebody_types_into_the_registry_harms_no_name(cluster: Cluster, door: str) -> None:
    cluster.write(ONE)
    assert seen(door, ONE)
    key = encode_key("chat", "demo")
    for value in ("", "{", "null", registry(ONE)[key].replace("10.0.0.1", "example.com/x")):
        patch = f'{{"data":{{"{key}":{_quoted(value)},"foreign":"key"}},"binaryData":{{"b":"AAAA"}}}}'
        cluster.kubectl("patch", "configmap", kinds.REGISTRY_NAME, "--type=merge", f"-p={patch}")
    other = ServerInfo("other", "10.0.0.3", 8000)
    entry = Entry("other", "chat", "engine", "u", (Service(other, "uid", "pod"),))
    cluster.write(ONE, **encode([entry]))
    with NameServerClient(door) as names:
        assert until(lambda: names.get_services("chat", "other") == [other])
    assert seen(door, ONE)


def test_a_deleted_registry_is_missed_for_no_moment_when_it_is_written_anew(cluster: Cluster, door: str) -> None:
    cluster.write(ONE)
    assert seen(door, ONE)
    cluster.kubectl("delete", "configmap", kinds.REGISTRY_NAME)
    for _ in range(10):
        assert listed(door) == [ONE]
        time.sleep(0.1)
    cluster.write(TWO)
    assert seen(door, TWO)


def test_names_go_with_their_namespace(control_plane: ControlPlane, cluster: Cluster, door: str) -> None:
    cluster.write(ONE)
    assert seen(door, ONE)
    control_plane.kubectl("delete", "namespace", cluster.namespace, "--wait=false")
    assert seen(door, within_s=30)
    assert ask(door, "/health", method="GET").status == 200


def test_known_names_are_served_while_the_api_server_is_killed_and_changes_are_seen_when_it_is_back(
    control_plane: ControlPlane, cluster: Cluster, door: str
) -> None:
    with running(FakeEngine(words=["alive"]).app()) as port:
        info = ServerInfo("demo", "127.0.0.1", port)
        cluster.write(info)
        assert seen(door, info)
        with control_plane.without_api_server():
            deadline = time.monotonic() + 5
            while time.monotonic() < deadline:
                assert listed(door) == [info]
                assert chat(door) == "alive"
                assert [ask(door, path, method="GET").status for path in ("/health", "/ready")] == [200, 200]
                time.sleep(0.2)
        cluster.write(info, ONE)
        assert until(lambda: len(listed(door)) == 2, BACK_S)
        cluster.write(info)
        assert seen(door, info)


def test_an_api_server_that_hangs_for_a_while_keeps_no_change_away(
    control_plane: ControlPlane, cluster: Cluster, door: str
) -> None:
    cluster.write(ONE)
    assert seen(door, ONE)
    os.kill(control_plane.api_server.pid, signal.SIGSTOP)
    try:
        time.sleep(3)
        assert listed(door) == [ONE]
    finally:
        os.kill(control_plane.api_server.pid, signal.SIGCONT)
    cluster.write(TWO)
    assert seen(door, TWO, within_s=BACK_S)


def test_a_watch_whose_packets_vanish_is_given_up_and_the_change_is_seen(cluster: Cluster) -> None:
    patience = "from modelengine_kube import api; api.WATCH_SILENCE_S = 3"
    code = f"{patience}; from modelengine_gateway.__main__ import main; main()"
    port = processes.free_port()
    settings = {"REGISTRY": "configmaps", "NAMESPACES": cluster.namespace, "LISTEN_PORT": str(port)}
    variables = {f"MODELENGINE_{name}": value for name, value in settings.items()}
    cluster.write(ONE)
    with subprocess.Popen([sys.executable, "-c", code], env={**os.environ, **variables}) as process:
        try:
            door = f"127.0.0.1:{port}"
            assert until(lambda: answers(f"http://{door}/ready"), 10)
            assert listed(door) == [ONE]
            with vanishing(_watch_port(process.pid)):
                cluster.write(TWO)
                time.sleep(1)
                assert listed(door) == [ONE], "the packets did arrive; this test proves nothing"
                assert seen(door, TWO, within_s=6)
        finally:
            process.kill()


def test_it_reads_nothing_but_the_registry_and_could_not(
    control_plane: ControlPlane, cluster: Cluster, tmp_path: Path
) -> None:
    cluster.kubectl("create", "configmap", "another", "--from-literal=a=b")
    mark = control_plane.audit.mark()
    with front_door(tmp_path, cluster.namespace) as door:
        cluster.write(ONE)
        assert seen(door, ONE)
    calls = control_plane.audit.calls(user=f"{cluster.namespace}:{ACCOUNT}", since=mark)
    assert {(call.verb, call.resource, call.namespace, call.name, call.code) for call in calls} == {
        ("list", "configmaps", cluster.namespace, kinds.REGISTRY_NAME, 200),
        ("watch", "configmaps", cluster.namespace, kinds.REGISTRY_NAME, 200),
    }
    as_door = ["--kubeconfig", str(cluster.kubeconfig), "-n", cluster.namespace]
    for words in (
        ["get", "configmap", "another"],
        ["get", "configmaps"],
        ["get", "secrets"],
        ["get", "pods"],
        ["get", "configmap", kinds.REGISTRY_NAME, "-n", "default"],
        ["annotate", "configmap", kinds.REGISTRY_NAME, "a=b"],
        ["delete", "configmap", kinds.REGISTRY_NAME],
    ):
        with pytest.raises(CommandFailed, match="orbidden"):
            control_plane.kubectl(*as_door, *words)


@pytest.mark.parametrize("verb", ["list", "watch"])
def test_each_right_that_it_uses_is_needed(cluster: Cluster, tmp_path: Path, verb: str) -> None:
    cluster.grant(*(READS - {verb}))
    port = processes.free_port()
    with processes.front_door(tmp_path, port, registry="configmaps", namespaces=cluster.namespace) as server:
        told = f'cannot {verb} resource "configmaps"'
        assert until(lambda: told in server.output, 5), server.output
        if verb == "list":
            assert told in ask(f"127.0.0.1:{port}", "/ready", method="GET").msg


def test_rights_that_are_taken_away_leave_what_is_known_and_the_change_is_seen_once_they_are_back(
    control_plane: ControlPlane, cluster: Cluster, door: str
) -> None:
    cluster.write(ONE)
    assert seen(door, ONE)
    cluster.kubectl("delete", "rolebinding", ACCOUNT)
    with control_plane.without_api_server():
        pass
    cluster.write(TWO)
    time.sleep(3)
    assert listed(door) == [ONE]
    cluster.grant("list", "watch")
    assert seen(door, TWO, within_s=BACK_S)


def test_a_namespace_without_rights_keeps_no_other_away(cluster: Cluster, tmp_path: Path) -> None:
    cluster.write(ONE)
    with front_door(tmp_path, "kube-system", cluster.namespace) as door:
        assert listed(door) == [ONE]


def test_with_rights_everywhere_all_namespaces_are_read_in_one_watch_and_the_own_goes_first(
    control_plane: ControlPlane, cluster: Cluster, tmp_path: Path
) -> None:
    role = {"name": f"{ACCOUNT}-{cluster.namespace}"}
    rbac = "rbac.authorization.k8s.io"
    [rule] = rights(cluster.namespace, "list", "watch")[0]["rules"]
    subject = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": cluster.namespace}
    control_plane.apply(
        {"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": role, "rules": [rule]},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": role,
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", **role},
            "subjects": [subject],
        },
    )
    first = f"a-{cluster.namespace}"
    control_plane.create_namespace(first)
    try:
        mark = control_plane.audit.mark()
        with front_door(tmp_path) as door:
            Cluster(control_plane, first).write(TWO)
            assert seen(door, TWO)
            cluster.write(ONE)
            assert seen(door, TWO)
        with processes.front_door(
            tmp_path, port := processes.free_port(), registry="configmaps", namespace=cluster.namespace
        ):
            assert seen(f"127.0.0.1:{port}", ONE, within_s=5)
        calls = control_plane.audit.calls(user=f"{cluster.namespace}:{ACCOUNT}", since=mark)
        assert {(call.verb, call.namespace, call.name) for call in calls} == {
            ("list", "", kinds.REGISTRY_NAME),
            ("watch", "", kinds.REGISTRY_NAME),
        }
    finally:
        control_plane.kubectl("delete", "namespace", first, "--wait=false")
        control_plane.kubectl("delete", "clusterrole,clusterrolebinding", role["name"])


def test_a_killed_engine_is_out_at_the_first_connection_that_fails_though_the_registry_still_has_it(
    cluster: Cluster, door: str
) -> None:
    with engine_process("demo") as (process, info), running(FakeEngine(words=["alive"]).app()) as port:
        alive = ServerInfo("demo", "127.0.0.1", port)
        cluster.write(info, alive)
        assert until(lambda: len(listed(door)) == 2)
        process.kill()
        process.wait()
        while listed(door) != [alive]:
            assert chat(door) == "alive"


def test_who_waits_for_a_name_that_nobody_has_made_yet_gets_it_when_it_comes(cluster: Cluster, door: str) -> None:
    later = threading.Timer(0.3, lambda: cluster.write(ONE))
    later.start()
    reply = ask(door, "/nameserver/wait", {"protocol": "chat", "name": "demo", "timeout_s": 9})
    later.join()
    assert (reply.status, reply.msg["services"][0]["host"]) == (200, ONE.host)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _watch_port(pid: int) -> int:
    """Of the front door's connection to the API server: the only one, as long as it watches."""
    [port] = [
        found.laddr.port
        for found in psutil.Process(pid).net_connections("tcp")
        if found.raddr and found.raddr.port == 6443
    ]
    return int(port)


@contextmanager
def vanishing(port: int) -> Iterator[None]:
    """What the API server sends to this port never arrives, and nobody is told."""
    rule = ["INPUT", "-p", "tcp", "--dport", str(port), "--sport", "6443", "-j", "DROP"]
    subprocess.run(["iptables", "-A", *rule], check=True)
    try:
        yield
    finally:
        subprocess.run(["iptables", "-D", *rule], check=True)
