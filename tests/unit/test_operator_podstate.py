"""A pod in few words: every way in which one does not run, in the shapes that a kubelet and a scheduler write."""

from __future__ import annotations

from typing import Any

import pytest

from modelengine import kinds
from modelengine_operator import podstate
from modelengine_operator.podstate import PodState, Trouble

Object = dict[str, Any]
CREATED, STARTED, LATER = "2026-11-24T11:00:00Z", "2026-11-24T11:00:10Z", "2026-11-24T11:30:00Z"
RUNNING: Object = {"running": {"startedAt": STARTED}}
WORDS = """INFO loading
error: /model: there is no config.json in it; is it a model's folder?
"""
TRACEBACK = """Traceback (most recent call last):
  File "/app/modelengine_runtime/runner.py", line 20, in step
    raise RuntimeError("CUDA error: device-side assert triggered")
RuntimeError: CUDA error: device-side assert triggered

"""


def condition(kind: str, is_so: bool, since: str = CREATED, **other: str) -> Object:
    return {"type": kind, "status": str(is_so), "lastProbeTime": None, "lastTransitionTime": since, **other}


def container(state: Object, name: str = kinds.ENGINE_CONTAINER, **other: Any) -> Object:
    return {
        "name": name,
        "state": state,
        "lastState": {},
        "ready": False,
        "started": False,
        "restartCount": 0,
        "image": "registry.example/engine:1",
        "imageID": "",
        **other,
    }


def pod(
    *containers: Object,
    init: tuple[Object, ...] = (),
    ready: Object | None = None,
    metadata: Object | None = None,
    spec: Object | None = None,
    **status: Any,
) -> Object:
    """A pod on node-1 that is not ready."""
    conditions = [
        condition("PodReadyToStartContainers", True),
        condition("Initialized", True),
        ready
        or condition("Ready", False, reason="ContainersNotReady", message="containers with unready status: [engine]"),
        condition("ContainersReady", False, reason="ContainersNotReady"),
        condition("PodScheduled", True),
    ]
    return {
        "metadata": {
            "namespace": "team",
            "name": "qwen-engine-5d7f8c9b6-x2x4z",
            "uid": "u-1",
            "labels": dict(kinds.labels("qwen")),
            "annotations": {kinds.ANNOTATION_SERVED_NAME: "Qwen/Qwen3", kinds.ANNOTATION_PROTOCOL: "chat"},
            **(metadata or {}),
        },
        "spec": {"nodeName": "node-1", **(spec or {})},
        "status": {
            "phase": "Running" if any("running" in c["state"] for c in containers) else "Pending",
            "conditions": conditions,
            "podIP": "10.0.0.7",
            "podIPs": [{"ip": "10.0.0.7"}],
            "initContainerStatuses": list(init),
            "containerStatuses": list(containers),
            **status,
        },
    }


def unplaced(message: str, reason: str = "Unschedulable", **spec: Any) -> Object:
    placed = {"type": "PodScheduled", "status": "False", "reason": reason, "message": message}
    given = pod(phase="Pending", conditions=[placed], spec=spec)
    del given["spec"]["nodeName"], given["status"]["podIP"], given["status"]["containerStatuses"]
    return given


def waiting(reason: str, message: str = "") -> Object:
    return {"waiting": {"reason": reason} | ({"message": message} if message else {})}


def ended(code: int, message: str = "", reason: str = "Error", *, seconds: int = 5) -> Object:
    told = {
        "exitCode": code,
        "reason": reason,
        "startedAt": STARTED,
        "finishedAt": f"2026-11-24T11:{seconds // 60:02}:10Z",
    }
    return {"terminated": told | ({"message": message} if message else {})}


def trouble(given: Object) -> Trouble:
    found = podstate.parse(given).trouble
    assert found is not None
    assert len(found.message) <= podstate.MESSAGE_LIMIT + podstate.QUOTE_LIMIT
    assert "\n" not in found.message
    return found


READY = pod(
    container(RUNNING, ready=True, started=True),
    ready=condition("Ready", True, LATER),
)


def test_a_ready_pod_is_all_that_the_registry_needs_to_know() -> None:
    assert podstate.parse(READY) == PodState(
        name="qwen-engine-5d7f8c9b6-x2x4z",
        uid="u-1",
        ip="10.0.0.7",
        engine="qwen",
        served_name="Qwen/Qwen3",
        protocol="chat",
        is_ready=True,
        is_leaving=False,
        is_starting=False,
        node="node-1",
        trouble=None,
    )


def test_an_address_of_the_sixth_version_is_taken_as_it_is() -> None:
    assert podstate.parse(pod(podIP="fd00::7")).ip == "fd00::7"


def test_a_pod_that_nobody_has_looked_at_yet_has_no_trouble() -> None:
    found = podstate.parse({"metadata": {"name": "p", "uid": "u"}, "spec": {}, "status": {"phase": "Pending"}})
    assert (found.is_ready, found.is_leaving, found.is_starting, found.trouble) == (False, False, False, None)
    assert (found.ip, found.node, found.engine, found.served_name, found.protocol) == ("", "", "", "", "chat")


def test_a_pod_that_gets_its_image_has_no_trouble() -> None:
    found = podstate.parse(pod(container(waiting("ContainerCreating"))))
    assert (found.is_starting, found.trouble) == (False, None)


def test_a_pod_that_is_being_deleted_is_neither_ready_nor_in_trouble() -> None:
    leaving = READY | {"metadata": READY["metadata"] | {"deletionTimestamp": LATER}}
    found = podstate.parse(leaving)
    assert (found.is_ready, found.is_leaving, found.is_starting, found.trouble) == (False, True, False, None)
    crashed = pod(container(ended(137)), metadata={"deletionTimestamp": LATER})
    assert podstate.parse(crashed).trouble is None


@pytest.mark.parametrize("name", [kinds.ENGINE_CONTAINER, kinds.FETCH_CONTAINER])
def test_one_whose_engine_or_fetcher_runs_can_be_asked(name: str) -> None:
    assert podstate.parse(pod(container(RUNNING, name))).is_starting


def test_one_where_only_a_foreign_container_runs_can_not_be_asked() -> None:
    sidecar = container(RUNNING, "mesh-proxy", started=True, ready=True)
    found = podstate.parse(pod(container(waiting("PodInitializing")), init=(sidecar,)))
    assert (found.is_starting, found.trouble) == (False, None)


NO_GPU = (
    "0/3 nodes are available: 1 Insufficient nvidia.com/gpu, 2 node(s) didn't match Pod's node affinity/selector. "
    "no new claims to deallocate, preemption: 0/3 nodes are available: 1 No preemption victims found for incoming "
    "pod, 2 Preemption is not helpful for scheduling."
)


def test_the_resource_that_no_node_has_is_named() -> None:
    assert trouble(unplaced(NO_GPU)) == Trouble(
        podstate.UNSCHEDULABLE,
        "no node has enough nvidia.com/gpu free: add a node, or ask for less in spec.resources (0/3 nodes are "
        "available: 1 Insufficient nvidia.com/gpu, 2 node(s) didn't match Pod's node affinity/selector)",
        "nvidia.com/gpu",
    )


@pytest.mark.parametrize(
    ("message", "about"),
    [
        (
            "0/1 nodes are available: 1 Insufficient nvidia.com/gpu. preemption: 0/1 nodes are available: 1 x.",
            "nvidia.com/gpu",
        ),
        ("0/2 nodes are available: 1 Insufficient memory, 2 Insufficient amd.com/gpu.", "amd.com/gpu, memory"),
        ("0/2 nodes are available: 2 Insufficient cpu, 2 Insufficient memory.", "cpu, memory"),
        ("0/1 nodes are available: 1 Insufficient hugepages-2Mi.", "hugepages-2Mi"),
        ("0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.", "gpu=a100, zone=b"),
        ("0/1 nodes are available: 1 node(s) had untolerated taint(s).", "taint"),
        ("0/1 nodes are available: 1 node(s) had untolerated taint {nvidia.com/gpu: }.", "taint"),
        ("0/1 nodes are available: 1 node(s) were unschedulable.", "cordoned"),
        ("0/1 nodes are available: 1 Too many pods.", "pods"),
        ("no nodes available to schedule pods", "no nodes"),
        ('0/1 nodes are available: persistentvolumeclaim "models" not found. preemption: 0/1 x.', "claim models"),
        ("0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found", "volume"),
        ("0/1 nodes are available: 1 node(s) didn't match PersistentVolume's node affinity.", "volume"),
        ("0/1 nodes are available: 1 node(s) didn't match pod anti-affinity rules.", "affinity"),
        ("something that nobody has heard of", ""),
    ],
)
def test_what_keeps_a_pod_from_a_node_is_named(message: str, about: str) -> None:
    found = trouble(unplaced(message, nodeSelector={"gpu": "a100", "zone": "b"}))
    assert (found.reason, found.about) == (podstate.UNSCHEDULABLE, about)
    assert "preemption" not in found.message


@pytest.mark.parametrize("end", ["", ".", ". not found", ". preemption: 0/1 nodes are available: 1 x."])
def test_a_missing_claim_is_told_without_the_scheduler_s_noise(end: str) -> None:
    assert trouble(unplaced(f'0/1 nodes are available: persistentvolumeclaim "models" not found{end}')).message == (
        'make that PersistentVolumeClaim here (0/1 nodes are available: persistentvolumeclaim "models" not found)'
    )


def test_affinity_that_no_node_has_is_named_where_there_is_no_selector() -> None:
    found = trouble(unplaced("0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."))
    assert found.about == "affinity"
    assert found.message.startswith("no node is as spec.nodeSelector and spec.affinity want it (0/1 nodes")


def test_a_pod_that_is_held_back_by_a_queue_says_so() -> None:
    found = trouble(unplaced("Scheduling is blocked due to non-empty scheduling gates", "SchedulingGated"))
    assert (found.reason, found.about) == (podstate.UNSCHEDULABLE, "gated")


def test_a_scheduler_without_words_still_has_a_reason() -> None:
    assert trouble(unplaced("", "SchedulerError")) == Trouble(podstate.UNSCHEDULABLE, "SchedulerError")


PULL = (
    'Back-off pulling image "registry.example/engine:1": ErrImagePull: rpc error: code = NotFound desc = failed to '
    'pull and unpack image "registry.example/engine:1": failed to resolve reference: not found'
)


@pytest.mark.parametrize("reason", [reason for reason in podstate.PULL_REASONS if reason != "ErrImageNeverPull"])
def test_an_image_that_can_not_be_pulled_is_named(reason: str) -> None:
    assert trouble(pod(container(waiting(reason, PULL)))) == Trouble(
        podstate.IMAGE_PULL_FAILED,
        'Back-off pulling image "registry.example/engine:1": ErrImagePull: failed to pull and unpack image '
        '"registry.example/engine:1": failed to resolve reference: not found; see to its name, and to '
        "spec.imagePullSecrets",
        "registry.example/engine:1",
    )


def test_of_a_volume_s_image_it_is_that_one_that_is_named() -> None:
    message = 'Back-off pulling image "registry.example/models/qwen:1": ErrImagePull: denied'
    assert trouble(pod(container(waiting("ImagePullBackOff", message)))).about == "registry.example/models/qwen:1"


def test_an_image_that_may_not_be_pulled_needs_loading() -> None:
    message = 'Container image "registry.example/engine:1" is not present with pull policy of Never'
    found = trouble(pod(container(waiting("ErrImageNeverPull", message))))
    assert (found.reason, found.about) == (podstate.IMAGE_PULL_FAILED, "registry.example/engine:1")
    assert found.message == f"{message}; load it into the node, or set another pull policy"


def test_an_image_whose_name_is_none_is_another_trouble() -> None:
    message = 'Failed to apply default image tag "a//b": couldn\'t parse image name "a//b": invalid reference format'
    found = trouble(pod(container(waiting("InvalidImageName", message), image="a//b")))
    assert found == Trouble(podstate.INVALID_IMAGE, message, "a//b")


@pytest.mark.parametrize("reason", podstate.CONFIG_REASONS)
def test_a_container_that_can_not_be_made_says_why(reason: str) -> None:
    message = 'failed to prepare subPath for volumeMount "model" of container "engine"'
    assert trouble(pod(container(waiting(reason, message)))) == Trouble(podstate.CONFIG_ERROR, message)
    assert trouble(pod(container(waiting(reason)))) == Trouble(podstate.CONFIG_ERROR, reason)


FETCH_WORDS = "INFO asking\nerror: hf://a/b: the hub answers 401; put a token into the Secret modelengine-hub-token\n"


def test_a_download_that_fails_says_so_in_the_fetcher_s_words() -> None:
    fetch = container(waiting("CrashLoopBackOff", "back-off 40s"), kinds.FETCH_CONTAINER, restartCount=3)
    fetch["lastState"] = ended(1, FETCH_WORDS)
    assert trouble(pod(container(waiting("PodInitializing")), init=(fetch,))) == Trouble(
        podstate.FETCH_FAILED,
        "restarts: 3; hf://a/b: the hub answers 401; put a token into the Secret modelengine-hub-token",
    )


def test_a_fetcher_that_runs_again_after_a_failure_is_in_trouble_until_it_is_done() -> None:
    fetch = container(RUNNING, kinds.FETCH_CONTAINER, restartCount=1, started=True, lastState=ended(1, FETCH_WORDS))
    found = podstate.parse(pod(container(waiting("PodInitializing")), init=(fetch,)))
    assert found.is_starting
    assert found.trouble is not None
    assert found.trouble.reason == podstate.FETCH_FAILED


def test_a_fetcher_that_is_done_is_no_trouble() -> None:
    done = container(ended(0, reason="Completed"), kinds.FETCH_CONTAINER, ready=True)
    found = podstate.parse(pod(container(RUNNING), init=(done,)))
    assert (found.is_starting, found.trouble) == (True, None)


def test_a_fetcher_that_is_killed_is_told_by_name() -> None:
    fetch = container(ended(137), kinds.FETCH_CONTAINER)
    found = trouble(pod(container(waiting("PodInitializing")), init=(fetch,)))
    assert found.reason == podstate.RESTARTED
    assert found.message.startswith("fetch: exit code 137 (SIGKILL): no last words; see kubectl logs qwen-engine-")


def test_a_model_that_does_not_load_says_so_in_the_engine_s_words() -> None:
    crashed = container(waiting("CrashLoopBackOff"), lastState=ended(1, WORDS), restartCount=2)
    assert trouble(pod(crashed)) == Trouble(
        podstate.MODEL_LOAD_FAILED,
        "restarts: 2; /model: there is no config.json in it; is it a model's folder?",
    )
    first = trouble(pod(container(ended(1, WORDS))))
    assert first.message == "/model: there is no config.json in it; is it a model's folder?"


@pytest.mark.parametrize("state", [RUNNING, waiting("CrashLoopBackOff"), None])
def test_one_that_took_too_much_memory_says_so_whether_or_not_it_runs_again(state: Object | None) -> None:
    killed = ended(137, reason="OOMKilled")
    engine = container(state or killed, lastState=killed if state else {}, restartCount=1 if state else 0)
    limits = {"containers": [{"name": "engine", "resources": {"limits": {"memory": "2Gi"}}}]}
    found = trouble(pod(engine, spec=limits))
    assert found.reason == podstate.OUT_OF_MEMORY
    advice = "it went over its memory limit of 2Gi; raise spec.resources.limits.memory"
    assert found.message == (f"restarts: 1; {advice}" if state else advice)


def test_a_fetcher_s_limit_is_looked_up_too() -> None:
    fetch = container(ended(137, reason="OOMKilled"), kinds.FETCH_CONTAINER)
    limits = {"containers": [{"name": "engine"}]}
    limits["initContainers"] = [{"name": "fetch", "resources": {"limits": {"memory": "1Gi"}}}]
    found = trouble(pod(container(waiting("PodInitializing")), init=(fetch,), spec=limits))
    assert found.message.startswith("fetch: it went over its memory limit of 1Gi")


def test_one_without_a_limit_was_killed_for_its_node_s_memory() -> None:
    found = trouble(pod(container(ended(137, reason="OOMKilled")), spec={"containers": [{"name": "engine"}]}))
    assert found.message.startswith("its node had no memory left; set spec.resources.requests.memory")


def test_a_crash_loop_has_the_last_line_of_the_log() -> None:
    crashed = container(waiting("CrashLoopBackOff"), lastState=ended(1, TRACEBACK), restartCount=4)
    assert trouble(pod(crashed)) == Trouble(
        podstate.CRASH_LOOP,
        "restarts: 4; exit code 1: RuntimeError: CUDA error: device-side assert triggered; see kubectl logs "
        "qwen-engine-5d7f8c9b6-x2x4z -c engine --previous",
    )


def test_an_engine_that_ends_well_again_and_again_is_a_crash_loop_too() -> None:
    crashed = container(waiting("CrashLoopBackOff"), lastState=ended(0, reason="Completed"), restartCount=4)
    found = trouble(pod(crashed))
    assert found.reason == podstate.CRASH_LOOP
    assert found.message.startswith("restarts: 4; exit code 0: no last words")


def test_an_engine_that_ended_well_has_restarted_too() -> None:
    """As after a probe that failed: it is asked to stop, and does."""
    again = container(RUNNING, lastState=ended(0, reason="Completed"), restartCount=1)
    found = trouble(pod(again))
    assert found.reason == podstate.RESTARTED
    assert found.message.startswith("restarts: 1; exit code 0: ")


def test_an_engine_that_was_killed_once_has_restarted() -> None:
    found = trouble(pod(container(RUNNING, lastState=ended(137), restartCount=1)))
    assert found == Trouble(
        podstate.RESTARTED,
        "restarts: 1; exit code 137 (SIGKILL): no last words; see kubectl logs qwen-engine-5d7f8c9b6-x2x4z -c engine "
        "--previous",
    )


@pytest.mark.parametrize(("seconds", "reason"), [(60, podstate.CRASH_LOOP), (1800, podstate.RESTARTED)])
def test_ends_are_a_loop_when_they_are_near_each_other(seconds: int, reason: str) -> None:
    again = container(RUNNING, lastState=ended(1, TRACEBACK, seconds=seconds), restartCount=3)
    assert trouble(pod(again)).reason == reason


def test_an_end_without_times_is_taken_for_a_short_life() -> None:
    lost = {"terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown", "startedAt": None, "finishedAt": None}}
    assert trouble(pod(container(RUNNING, lastState=lost, restartCount=2))).reason == podstate.CRASH_LOOP


@pytest.mark.parametrize(("code", "shown"), [(1, "1"), (137, "137 (SIGKILL)"), (139, "139 (SIGSEGV)"), (255, "255")])
def test_a_signal_has_its_name(code: int, shown: str) -> None:
    assert f"exit code {code}" in trouble(pod(container(ended(code)))).message
    assert f"exit code {shown}: " in trouble(pod(container(ended(code)))).message


def test_a_long_last_line_is_cut_and_the_advice_stays() -> None:
    found = trouble(pod(container(ended(1, "x" * 5000))))
    assert "xxx…; see kubectl logs" in found.message
    assert len(found.message) < podstate.MESSAGE_LIMIT
    assert len(trouble(pod(container(ended(1, "error: " + "x" * 5000)))).message) == podstate.MESSAGE_LIMIT


def test_an_engine_that_answered_and_does_not_any_more_fails_its_probe() -> None:
    silent = pod(container(RUNNING, started=True), ready=condition("Ready", False, LATER, reason="ContainersNotReady"))
    assert trouble(silent) == Trouble(
        podstate.PROBE_FAILED,
        "it runs, but /ready does not answer 200 any more; see kubectl logs qwen-engine-5d7f8c9b6-x2x4z -c engine",
    )


def test_an_end_long_ago_is_not_why_an_engine_does_not_answer_now() -> None:
    engine = container(RUNNING, started=True, restartCount=5, lastState=ended(137, reason="OOMKilled"))
    silent = pod(engine, ready=condition("Ready", False, LATER, reason="ContainersNotReady"))
    assert trouble(silent).reason == podstate.PROBE_FAILED


def test_one_that_has_just_come_up_is_about_to_be_ready() -> None:
    engine = container(RUNNING, started=True, restartCount=1, lastState=ended(137))
    for since in (CREATED, STARTED):
        found = podstate.parse(pod(engine, ready=condition("Ready", False, since, reason="ContainersNotReady")))
        assert (found.is_starting, found.trouble) == (True, None)


EVICTED = (
    "The node was low on resource: memory. Threshold quantity: 100Mi, available: 51Mi. Container engine was using "
    "2Gi, request is 0, has larger consumption of memory. "
)


def test_an_evicted_pod_has_left_and_says_why() -> None:
    given = pod(container(ended(137)), phase="Failed", reason="Evicted", message=EVICTED)
    found = podstate.parse(given)
    assert (found.is_leaving, found.is_ready, found.is_starting) == (True, False, False)
    assert trouble(given) == Trouble(
        podstate.EVICTED,
        f"{EVICTED.rstrip('. ')}; give spec.resources.requests what it needs, so that its node keeps it free",
    )


def test_a_pod_that_was_evicted_for_its_shared_memory_says_which_field_to_raise() -> None:
    message = 'Usage of EmptyDir volume "shm" exceeds the limit "64Mi". '
    given = pod(phase="Failed", reason="Evicted", message=message)
    assert trouble(given).message == f"{message.rstrip('. ')}; raise spec.shmSize"


@pytest.mark.parametrize("reason", ["UnexpectedAdmissionError", "NodeShutdown", "OutOfcpu", "Terminated"])
def test_a_pod_that_its_node_would_not_have_says_why(reason: str) -> None:
    assert trouble(pod(phase="Failed", reason=reason)) == Trouble(podstate.EVICTED, reason, reason)


def test_a_pod_on_a_node_that_has_gone_silent_says_so() -> None:
    given = pod(container(RUNNING, ready=True, started=True))
    given["status"]["conditions"] = [condition("ContainersReady", True), condition("Ready", False, LATER)]
    assert trouble(given) == Trouble(
        podstate.NODE_SILENT, "node node-1 has gone silent; its pods are replaced on others soon", "node-1"
    )


def test_a_pod_whose_containers_are_not_ready_is_on_no_silent_node() -> None:
    given = pod(container(waiting("ContainerCreating")))
    given["status"]["conditions"] = [condition("ContainersReady", False), condition("Ready", False)]
    assert podstate.parse(given).trouble is None


def test_a_pod_that_waits_for_somebody_s_readiness_gate_is_on_no_silent_node() -> None:
    given = pod(container(RUNNING, ready=True, started=True))
    missing = condition("Ready", False, LATER, reason="ReadinessGatesNotReady")
    given["status"]["conditions"] = [condition("ContainersReady", True), missing]
    assert podstate.parse(given).trouble is None


def test_a_foreign_container_s_trouble_is_told_with_its_name() -> None:
    sidecar = container(waiting("ImagePullBackOff", 'Back-off pulling image "mesh:1"'), "mesh-proxy", image="mesh:1")
    found = trouble(pod(container(RUNNING, started=True, ready=True), sidecar))
    assert (found.reason, found.about) == (podstate.IMAGE_PULL_FAILED, "mesh:1")
    assert found.message.startswith("mesh-proxy: Back-off pulling")


def test_a_foreign_container_that_has_done_its_work_is_no_trouble() -> None:
    helper = container(ended(0, reason="Completed"), "helper")
    assert podstate.parse(pod(container(RUNNING), helper)).trouble is None
