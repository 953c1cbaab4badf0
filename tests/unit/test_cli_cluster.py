"""What the command line makes of a cluster's answers: no cluster here, and no kubectl."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import typer

from modelengine import errors
from modelengine.cli import cluster_checks, engines, front_door, kubectl, reach
from modelengine.cli.checks import State
from modelengine.cli.exits import INSTALL
from modelengine.cli.reach import Cluster, Reach

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
NOTHING = dict.fromkeys(reach.OPTIONS)


def service(namespace: str, name: str = "modelengine", port: int = 9527) -> dict[str, Any]:
    ports = [{"name": "metrics", "port": 1}, {"name": "nameserver", "port": port}]
    return {"metadata": {"namespace": namespace, "name": name}, "spec": {"ports": ports}}


def engine(name: str = "qwen-chat", **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "team", "creationTimestamp": "2026-01-01T11:58:00Z"},
        "spec": {"model": {"name": "Qwen/Qwen3-8B", "source": "hf://Qwen/Qwen3-8B"}, "replicas": 3},
        "status": status,
    }


def ready(status: str, reason: str, message: str = "") -> list[dict[str, str]]:
    return [{"type": "Ready", "status": status, "reason": reason, "message": message}]


def pod(phase: str = "Running", *, is_ready: bool = True, **status: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": "qwen-chat-engine-a",
            "namespace": "team",
            "creationTimestamp": "2026-01-01T11:58:00Z",
            "labels": {"modelengine.dev/engine": "qwen-chat"},
            "annotations": {"modelengine.dev/served-name": "Qwen/Qwen3-8B"},
        },
        "spec": {"nodeName": "gpu-1"},
        "status": {"phase": phase, "conditions": [{"type": "Ready", "status": str(is_ready)}], **status},
    }


def container(name: str, state: dict[str, Any], restarts: int = 0) -> list[dict[str, Any]]:
    return [{"name": name, "state": state, "restartCount": restarts}]


def test_a_cluster_is_meant_when_one_of_its_options_is_given_and_by_the_plugin_always() -> None:
    assert reach.chosen(NOTHING, is_plugin=False) == Reach()
    assert reach.chosen({**NOTHING, "host": "h"}, is_plugin=False) == Reach("h")
    assert reach.chosen({**NOTHING, "namespace": "n"}, is_plugin=False) == Reach(None, Cluster(namespace="n"))
    assert reach.chosen(NOTHING, is_plugin=True) == Reach(None, Cluster())
    assert reach.chosen({**NOTHING, "host": "h"}, is_plugin=True) == Reach("h")


def test_an_address_and_a_cluster_at_once_are_refused() -> None:
    with pytest.raises(typer.BadParameter, match="--host is an address"):
        reach.chosen({**NOTHING, "host": "h", "context": "c"}, is_plugin=False)


def test_a_cluster_is_named_to_kubectl_in_its_own_words() -> None:
    asking = kubectl.Kubectl(Cluster("c", "n", "/k"))
    assert asking.argv("get") == ["kubectl", "--context=c", "--kubeconfig=/k", "get"]
    assert asking.in_namespace() == ["--namespace=n"]
    assert asking.in_namespace(all_namespaces=True) == ["--all-namespaces"]
    assert kubectl.Kubectl(Cluster()).in_namespace() == []


def test_the_only_front_door_is_found_with_its_port() -> None:
    assert front_door.choose([service("a", port=99)], None) == front_door.Service("a", "modelengine", 99)


def test_of_several_front_doors_the_one_in_the_given_namespace_is_meant() -> None:
    assert front_door.choose([service("a"), service("b")], "b").namespace == "b"
    with pytest.raises(errors.InvalidRequest, match=r"a/modelengine, b/modelengine; .* --front-door-namespace"):
        front_door.choose([service("b"), service("a")], "elsewhere")


def test_without_a_front_door_it_is_said_how_to_get_one() -> None:
    with pytest.raises(errors.Unavailable, match="no front door in this cluster; helm install"):
        front_door.choose([], None)


@pytest.mark.parametrize(
    ("complaint", "kind", "message"),
    [
        (
            'error: context "x" does not exist',
            errors.InvalidRequest,
            'context "x" does not exist; kubectl config get-contexts lists them',
        ),
        (
            "Error in configuration: context was not found for specified context: x",
            errors.InvalidRequest,
            "Error in configuration: context was not found for specified context: x; "
            "kubectl config get-contexts lists them",
        ),
        (
            "error: stat /nope: no such file or directory",
            errors.InvalidRequest,
            "--kubeconfig: /nope: no such file or directory",
        ),
        (
            'error: the server doesn\'t have a resource type "modelengines"',
            kubectl.NotInstalled,
            f"ModelEngine is not installed in this cluster; {INSTALL}",
        ),
        (
            "error: You must be logged in to the server (Unauthorized)",
            errors.ModelEngineError,
            "the cluster does not know you (You must be logged in to the server (Unauthorized)); "
            "log in again, or choose another --context",
        ),
        (
            'Error from server (Forbidden): services is forbidden: User "u" cannot list resource "services"',
            kubectl.Forbidden,
            'the cluster does not let you: services is forbidden: User "u" cannot list resource "services"; '
            "ask for the role `view` or `edit` in that namespace",
        ),
        ('Error from server (NotFound): namespaces "x" not found', errors.NotFound, 'namespaces "x" not found'),
        (
            "E1 memcache.go] tried\nUnable to connect to the server: dial tcp: lookup x: no such host\n",
            kubectl.Unreachable,
            "the cluster can't be reached: dial tcp: lookup x: no such host; check --context, or: kubectl cluster-info",
        ),
        ("error: something new", errors.ModelEngineError, "kubectl: something new"),
        ("", errors.ModelEngineError, "kubectl: it failed without a word"),
    ],
)
def test_what_kubectl_complains_about_is_said_with_what_to_do(complaint: str, kind: type, message: str) -> None:
    failure = kubectl.explain(complaint)
    assert (type(failure), failure.message) == (kind, message)


def test_an_engine_s_record_says_what_it_serves_and_why_it_does_not() -> None:
    loading = {"stage": "downloading", "bytes": 1, "total": 2}
    found = engine(
        servedName="Qwen/Qwen3-8B",
        readyReplicas=1,
        reason="ModelLoading",
        loading=loading,
        conditions=ready("False", "ModelLoading", "1 of 3 answer"),
        endpoints=[{"pod": "p", "host": "10.0.0.1", "port": 8000, "uid": "u"}],
        model={"device": "cuda"},
    )
    assert engines.engine_record(found, NOW) == {
        "name": "qwen-chat",
        "namespace": "team",
        "model": "Qwen/Qwen3-8B",
        "protocol": "chat",
        "ready": "False",
        "ready_replicas": 1,
        "replicas": 3,
        "reason": "ModelLoading",
        "message": "1 of 3 answer",
        "age_s": 120.0,
        "source": "hf://Qwen/Qwen3-8B",
        "device": "cuda",
        **loading,
        "endpoints": ["10.0.0.1:8000"],
    }


@pytest.mark.parametrize(
    ("loading", "text"),
    [
        ({"stage": "downloading", "bytes": 1, "total": 3}, "downloading 33 %"),
        ({"stage": "downloading", "bytes": 0, "total": 3}, "downloading 0 %"),
        ({"stage": "loading"}, "loading"),
        ({}, "-"),
    ],
)
def test_how_far_an_engine_is_can_be_read_at_a_glance(loading: dict[str, Any], text: str) -> None:
    assert engines.progress(engines.engine_record(engine(loading=loading), NOW)) == text


def test_an_engine_that_the_operator_has_not_seen_has_a_record_as_well() -> None:
    fresh = engine()
    del fresh["status"]
    del fresh["spec"]["model"]["name"]
    record = engines.engine_record(fresh, NOW)
    assert (record["model"], record["ready"], record["reason"]) == ("qwen-chat", None, None)


def test_an_engine_is_found_by_its_own_name_and_by_the_one_it_serves() -> None:
    other = engine("other", servedName="qwen-chat")
    own = engine()
    assert engines.find([other, own], "qwen-chat") is own
    assert engines.find([other, own], "Qwen/Qwen3-8B") is own
    with pytest.raises(errors.NotFound, match="no ModelEngine 'qwen'; did you mean 'qwen-chat'"):
        engines.find([own], "qwen")


def test_why_a_name_is_not_served_is_one_sentence() -> None:
    waits = engine(conditions=ready("False", "Unschedulable", "no node has nvidia.com/gpu"))
    assert (
        engines.why_not([waits], "Qwen/Qwen3-8B")
        == "ModelEngine team/qwen-chat: Unschedulable: no node has nvidia.com/gpu"
    )
    assert engines.why_not([engine()], "Qwen/Qwen3-8B") == (
        "ModelEngine team/qwen-chat: the operator has not seen it yet"
    )
    assert engines.why_not([waits], "qwen-chat") == "ModelEngine team/qwen-chat serves 'Qwen/Qwen3-8B'"
    assert engines.why_not([waits], "x") == "no ModelEngine has that name"


def test_a_pod_s_record_has_its_place_and_what_the_engine_says_of_itself() -> None:
    info = {"device": "cuda", "context_length": 4096, "load": {"running": 2, "waiting": 1}}
    running = pod(podIP="10.0.0.1", containerStatuses=container("engine", {"running": {}}, restarts=4))
    record = engines.pod_record(running, info, NOW)
    assert {"name": "Qwen/Qwen3-8B", "pod": "qwen-chat-engine-a", "node": "gpu-1", "state": "Running"}.items() <= (
        record.items()
    )
    assert {"device": "cuda", "running": 2, "waiting": 1, "restarts": 4, "host": "10.0.0.1"}.items() <= record.items()
    assert engines.is_running(running)


@pytest.mark.parametrize(
    ("given", "state"),
    [
        (pod("Pending", is_ready=False), "Pending"),
        (pod(is_ready=False, containerStatuses=container("engine", {"running": {}})), "NotReady"),
        (pod(is_ready=False, initContainerStatuses=container("fetch", {"running": {}})), "Init:fetch"),
        (
            pod(
                "Pending",
                is_ready=False,
                initContainerStatuses=container("fetch", {"waiting": {"reason": "CrashLoopBackOff"}}),
            ),
            "Init:CrashLoopBackOff",
        ),
        (
            pod(is_ready=False, containerStatuses=container("engine", {"waiting": {"reason": "ImagePullBackOff"}})),
            "ImagePullBackOff",
        ),
    ],
)
def test_a_pod_that_is_not_ready_says_in_one_word_what_it_does(given: dict[str, Any], state: str) -> None:
    assert engines.pod_state(given) == state


def test_a_pod_that_is_deleted_is_terminating_whatever_else_it_is() -> None:
    gone = pod()
    gone["metadata"]["deletionTimestamp"] = "2026-01-01T12:00:00Z"
    assert engines.pod_state(gone) == "Terminating"


def test_only_a_pod_whose_containers_have_run_has_anything_to_read() -> None:
    waits = {"waiting": {"reason": "PodInitializing"}}
    assert not engines.has_begun(pod())
    assert not engines.has_begun(pod(containerStatuses=container("engine", waits)))
    assert engines.has_begun(pod(containerStatuses=container("engine", waits, restarts=1)))
    assert engines.has_begun(pod(initContainerStatuses=container("fetch", {"running": {}})))


def deployment(available: int, wanted: int = 2) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "me", "name": "modelengine-operator"},
        "spec": {"replicas": wanted},
        "status": {"availableReplicas": available} if available else {},
    }


@pytest.mark.parametrize(
    ("check", "state", "found", "fix"),
    [
        (cluster_checks.deployment("operator", []), State.FAIL, "not installed", "helm install"),
        (cluster_checks.deployment("operator", [deployment(0)]), State.FAIL, "0 of 2 available", "kubectl describe -n"),
        (cluster_checks.deployment("operator", [deployment(1)]), State.WARN, "1 of 2 available", "kubectl describe"),
        (cluster_checks.deployment("operator", [deployment(2)]), State.OK, "2 of 2 available: me/modelengine-", ""),
        (cluster_checks.installed(None), State.FAIL, "modelengine.dev is unknown", "helm install"),
        (cluster_checks.installed({"versions": [{"version": "v1"}]}), State.FAIL, "serves v1", "v1alpha1"),
        (cluster_checks.installed({"versions": [{"version": "v1alpha1"}]}), State.OK, "serves v1alpha1", ""),
        (cluster_checks.right("chat", "create", "pods", False), State.WARN, "no: may not create pods", "role `edit`"),
        (cluster_checks.right("chat", "create", "pods", True), State.OK, "yes", ""),
        (cluster_checks.engines(2, ["Unschedulable"]), State.WARN, "2 of 3 ready (Unschedulable)", "ls -o wide"),
        (cluster_checks.engines(0, []), State.OK, "0 of 0 ready", ""),
        (cluster_checks.not_allowed("operator"), State.WARN, "you may not look", "view"),
        (cluster_checks.failed("cluster", "it is away; go there"), State.FAIL, "it is away", "go there"),
    ],
)
def test_what_doctor_finds_in_a_cluster_has_a_state_and_where_it_is_wrong_a_fix(
    check: Any, state: State, found: str, fix: str
) -> None:
    assert check.state is state
    assert found in check.found
    assert fix in check.fix
    assert bool(check.fix) is (state is not State.OK)


def test_the_accelerators_of_all_nodes_are_added_up_and_other_resources_are_not() -> None:
    def node(**allocatable: str) -> dict[str, Any]:
        return {
            "status": {"allocatable": {key.replace("__", "/").replace("_", "."): v for key, v in allocatable.items()}}
        }

    nodes = [node(nvidia_com__gpu="4", cpu="8"), node(nvidia_com__gpu="4"), node(amd_com__gpu="0", memory="1Ki")]
    assert cluster_checks.accelerators(nodes).found == "8 nvidia.com/gpu on 2 nodes"
    none = cluster_checks.accelerators(nodes[2:])
    assert (none.state, none.found) == (State.WARN, "none on 1 node")
