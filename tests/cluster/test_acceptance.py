"""The seed's acceptance list on a real cluster, items 1-7 and 18-24, by number: our images on a real kubelet."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from callers import ask
from cluster import releases
from cluster.harness import processes
from cluster.harness.control_plane import ControlPlane
from cluster.harness.node import Node, claim
from cluster.releases import Release
from modelengine import ChatClient, NameServerClient, errors
from modelengine.protocol import ServerInfo

HELLO = [{"role": "user", "content": "hello"}]
CHINESE = [{"role": "user", "content": "给我介绍一下大型语言模型。"}]
# So hot that it hardly ever ends before its limit: an answer of some seconds.
LONG = {"max_new_tokens": 900, "temperature": 5.0, "seed": 3}
NAME = "Qwen/Qwen1.5-0.5B-Chat"


@pytest.fixture(scope="module")
def release(control_plane: ControlPlane, node: Node) -> Iterator[Release]:
    with releases.installed(control_plane, "me-acceptance") as installed:
        yield installed


@pytest.fixture(scope="module")
def home(control_plane: ControlPlane, release: Release) -> str:
    """A namespace whose ModelEngine `chat` serves NAME, for the tests that only ask."""
    control_plane.create_namespace("acceptance-home")
    release.apply("chat", "acceptance-home", model={"name": NAME})
    release.wait("chat", "acceptance-home")
    return "acceptance-home"


@pytest.fixture
def client(release: Release) -> Iterator[ChatClient]:
    with ChatClient(release.address) as client:
        yield client


class Streaming:
    """A long answer that is read in a thread of its own."""

    def __init__(self, address: str, name: str, **kwargs: object) -> None:
        self.parts: list[object] = []
        self.failure: Exception | None = None
        self._args = (address, name, kwargs)
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        processes.until(lambda: bool(self.parts or self.failure), 30, "the first part", pause_s=0.01)

    def _read(self) -> None:
        address, name, kwargs = self._args
        try:
            with ChatClient(address, **kwargs) as client:  # type: ignore[arg-type]
                for part in client.chat(name, CHINESE, stream=True, options=LONG):
                    self.parts.append(part)
        except Exception as failure:
            self.failure = failure

    def finish(self) -> None:
        self._thread.join(90)
        assert not self._thread.is_alive()


class Following:
    """A pod's log, read while it runs, for what it says at its end."""

    def __init__(self, release: Release, pod: str, namespace: str) -> None:
        self._text = ""
        self._words = ("logs", pod, "-n", namespace, "-f", "--ignore-errors")
        self._plane = release.plane
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        self._text = self._plane.kubectl(*self._words, timeout_s=240)

    def text(self) -> str:
        self._thread.join(90)
        return self._text


def test_01_installing_the_chart_makes_crd_operator_and_an_empty_registry_that_says_it_is_ready(
    release: Release,
) -> None:
    established = release.plane.kubectl("wait", "crd/modelengines.modelengine.dev", "--for=condition=Established")
    assert "condition met" in established
    assert release.find("deployment", "modelengine-operator", release.namespace)["status"]["readyReplicas"] == 1
    assert release.registry(release.namespace) == {}
    said = release.plane.kubectl("logs", "-n", release.namespace, "deploy/modelengine-front-door")
    assert "ModelEngineNameServer" in said
    assert "running! port: 9527" in said
    assert "running!" in release.plane.kubectl("logs", "-n", release.namespace, "deploy/modelengine-operator")
    with NameServerClient(release.address) as names:
        assert names.get_service_names("chat") == [] or names.get_service_names("chat") == [NAME]


def test_02_and_03_one_object_makes_one_pod_and_a_service_and_is_listed_only_when_it_is_loaded(
    release: Release, namespace: str
) -> None:
    seen: list[tuple[bool, int]] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            # In this order: if the pod is not ready after the look at the registry, it was not at that look.
            listed = len(release.services(namespace))
            conditions = [c for pod in release.pods("demo", namespace) for c in pod["status"].get("conditions", ())]
            ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
            seen.append((ready, listed))

    watcher = threading.Thread(target=watch)
    watcher.start()
    release.apply("demo", namespace)
    release.wait("demo", namespace)
    done.set()
    watcher.join()
    assert [pair for pair in seen if pair[1] and not pair[0]] == []
    assert any(not ready and not listed for ready, listed in seen)
    pods = release.pods("demo", namespace)
    assert len(pods) == len(release.services(namespace)) == 1
    assert release.get("service", "demo-engine", namespace)["spec"]["ports"][0]["port"] == 8000
    status = release.get("me", "demo", namespace)["status"]
    assert [(e["host"], e["port"]) for e in status["endpoints"]] == [(pods[0]["status"]["podIP"], 8000)]
    processes.until(lambda: "model" in release.get("me", "demo", namespace)["status"], 20, "what the model is")
    assert release.get("me", "demo", namespace)["status"]["model"]["parameters"] > 3_000_000
    log = release.plane.kubectl("logs", pods[0]["metadata"]["name"], "-n", namespace)
    assert "ModelEngineInferenceEngine: demo is running! port: 8000" in log
    events = json.loads(
        release.plane.kubectl(
            "get", "events", "-n", namespace, "--field-selector=involvedObject.kind=ModelEngine", "-o", "json"
        )
    )["items"]
    reasons = [event["reason"] for event in sorted(events, key=lambda e: int(e["metadata"]["resourceVersion"]))]
    print(reasons)
    # A small model may be loaded between two looks.
    way = ["Scheduling", "Starting", "Loading", "Registering", "Serving"]
    assert reasons == [reason for reason in way if reason in reasons]
    assert {"Starting", "Serving"} <= {*reasons}


def test_04_an_entry_has_the_name_unchanged_and_an_address_that_others_can_dial(
    release: Release, home: str, client: ChatClient
) -> None:
    [entry] = release.registry(home).values()
    assert (entry["name"], entry["protocol"]) == (NAME, "chat")
    [service] = entry["services"]
    assert {"name", "host", "port", "protocol"} <= set(service)
    [listed] = client.wait_service_available(NAME, 10)
    assert listed == ServerInfo(NAME, release.pods("chat", home)[0]["status"]["podIP"], 8000, "chat")
    assert ask(f"{listed.host}:{listed.port}", "/ready", method="GET").status == 200


def test_05_waiting_begins_before_the_object_exists_and_ends_in_time_when_it_never_does(
    release: Release, namespace: str, client: ChatClient
) -> None:
    began = time.monotonic()
    with pytest.raises(errors.WaitTimeout):
        client.wait_service_available("early", 1.0)
    assert 0.9 < time.monotonic() - began < 3
    found: list[list[ServerInfo]] = []
    waiting = threading.Thread(target=lambda: found.append(client.wait_service_available("early", releases.READY_S)))
    waiting.start()
    release.apply("early", namespace)
    waiting.join(releases.READY_S + 10)
    assert [info.name for info in found[0]] == ["early"]


def test_06_unknown_names_have_no_services_and_other_protocols_no_names(release: Release, home: str) -> None:
    with NameServerClient(release.address) as names:
        assert names.get_services("chat", "nobody") == []
        assert NAME in names.get_service_names("chat")
        assert NAME not in names.get_service_names("retriever")


def test_07_support_methods_is_sorted_and_an_unknown_method_is_an_error_that_names_it(
    release: Release, home: str, client: ChatClient
) -> None:
    methods = client.support_methods(NAME)
    assert methods == sorted(methods)
    assert {"inference", "support_methods"} <= set(methods)
    reply = ask(release.address, "/engine/dance", {"model": NAME})
    assert (reply.status, reply.envelope["state"]) == (404, "error")
    assert "dance" in reply.msg


def test_18_both_replicas_are_used_and_one_that_is_killed_leaves_within_the_bound(
    release: Release, node: Node, namespace: str, client: ChatClient
) -> None:
    release.apply("pair", namespace, replicas=2)
    release.wait("pair", namespace)
    assert len(client.wait_service_available("pair", 10)) == 2
    ips = {pod["status"]["podIP"]: pod["metadata"]["name"] for pod in release.pods("pair", namespace)}
    for _ in range(20):
        assert client.chat("pair", HELLO).content
    loads = {ip: ask(f"{ip}:8000", "/engine/info", {}).msg["load"] for ip in ips}
    assert all(load["finished"] > 0 for load in loads.values()), loads
    victim_ip, victim = next(iter(ips.items()))
    began = time.monotonic()
    release.plane.kubectl("delete", "pod", victim, "-n", namespace, "--grace-period=0", "--force", "--wait=false")
    with NameServerClient(release.address) as names:
        processes.until(
            lambda: victim_ip not in {info.host for info in names.get_services("chat", "pair")}, 5, "its leaving"
        )
        print(f"deleted by force to unlisted: {time.monotonic() - began:.2f} s")
        for _ in range(10):
            assert client.chat("pair", HELLO).content


def test_19_operator_and_registry_may_go_and_come_and_streams_do_not_notice(
    release: Release, home: str, client: ChatClient
) -> None:
    before = release.registry(home)
    streaming = Streaming(release.address, NAME)
    release.plane.kubectl("delete", "configmap", "modelengine-registry", "-n", home)
    words = ("get", "pods", "-n", release.namespace, "-l", "app.kubernetes.io/component=operator", "-o", "json")
    [operator] = json.loads(release.plane.kubectl(*words))["items"]
    name = operator["metadata"]["name"]
    release.plane.kubectl("delete", "pod", name, "-n", release.namespace, "--grace-period=0", "--force")

    def led_by_another() -> bool:
        holder = release.get("lease", "modelengine-operator", release.namespace)["spec"].get("holderIdentity", "")
        return holder not in ("", name)

    # A killed leader's Lease runs out first.
    processes.until(led_by_another, 60, "another leader")
    processes.until(lambda: release.registry(home) == before, 10, "the registry's return")
    streaming.finish()
    assert streaming.failure is None
    assert streaming.parts[-1].done  # type: ignore[attr-defined]
    assert release.pods("chat", home)[0]["status"]["containerStatuses"][0]["restartCount"] == 0
    release.plane.kubectl("delete", "configmap", "modelengine-registry", "-n", home)
    processes.until(lambda: release.registry(home) == before, 5, "the registry's second return")


def test_20_applied_twice_it_is_the_same_and_a_second_one_with_its_name_is_a_conflict(
    release: Release, home: str
) -> None:
    before = release.registry(home)
    release.apply("chat", home, model={"name": NAME})
    release.apply("rival", home, model={"name": NAME})
    assert release.until_reason("rival", home, "NameConflict") == "NameConflict: chat"
    assert "older" in release.message("rival", home, "NameConflict")
    assert release.pods("rival", home) == []
    assert release.registry(home) == before
    release.plane.kubectl("delete", "me/rival", "-n", home)


def test_21_a_deleted_one_leaves_the_list_first_and_lets_its_answer_end(
    release: Release, namespace: str, client: ChatClient
) -> None:
    release.apply("leaving", namespace)
    release.wait("leaving", namespace)
    [listed] = client.wait_service_available("leaving", 10)
    pod = release.pods("leaving", namespace)[0]["metadata"]["name"]
    log = Following(release, pod, namespace)
    streaming = Streaming(release.address, "leaving")
    release.plane.kubectl("delete", "me/leaving", "-n", namespace)
    processes.until(lambda: release.services(namespace) == [], 5, "its leaving the registry")
    # Unlisted, and not yet asked to stop: whoever has just looked it up is still answered.
    assert ask(f"{listed.host}:{listed.port}", "/ready", method="GET").status == 200
    with pytest.raises(errors.NotFound):
        client.chat("leaving", HELLO)
    streaming.finish()
    assert streaming.failure is None
    assert streaming.parts[-1].done  # type: ignore[attr-defined]
    processes.until(lambda: release.pods("leaving", namespace) == [], 90, "the end of its pod")
    assert "ModelEngineInferenceEngine clean_up!" in log.text()
    processes.until(lambda: release.find("service", "leaving-engine", namespace) is None, 30, "its Service's end")


@pytest.mark.parametrize(
    ("change", "reason", "says"),
    [
        ({"source": "pvc://nowhere"}, "Unschedulable", "nowhere"),
        ({"source": "pvc://models/none"}, "ModelLoadFailed", "/model"),
        ({"runtime": {"image": "localhost/other:1"}}, "ImageNotAllowed", "localhost/other:1"),
        ({"nodeSelector": {"gpu": "h100"}}, "Unschedulable: gpu=h100", "node"),
        ({"resources": {"limits": {"memory": "96Mi"}}}, "OOMKilled", "memory"),
    ],
    ids=["no such claim", "no model in the claim", "image not allowed", "no such node", "too little memory"],
)
def test_23_what_is_wrong_is_a_reason_that_a_person_understands_and_is_never_listed(
    release: Release, namespace: str, change: dict[str, object], reason: str, says: str
) -> None:
    release.plane.apply(claim("models", namespace))
    release.apply("wrong", namespace, **change)  # type: ignore[arg-type]
    assert release.until_reason("wrong", namespace, reason, 120).startswith(reason)
    message = release.message("wrong", namespace)
    print(message)
    assert says in message
    assert release.services(namespace) == []


def test_23_a_name_whose_model_can_not_start_is_away_and_not_unknown(release: Release, namespace: str) -> None:
    release.apply("waiting", namespace, nodeSelector={"gpu": "h100"})
    release.until_reason("waiting", namespace, "Unschedulable", 60)
    with (
        ChatClient(release.address, relayed=True) as client,
        pytest.raises(errors.Unavailable, match="no replica of 'waiting' is ready now"),
    ):
        client.chat("waiting", HELLO)
    with NameServerClient(release.address) as names:
        assert "waiting" not in names.get_service_names("chat")


def test_23_a_fixed_one_recovers_without_being_deleted(release: Release, namespace: str) -> None:
    release.apply("wrong", namespace, resources={"limits": {"memory": "96Mi"}})
    release.until_reason("wrong", namespace, "OOMKilled", 120)
    release.apply("wrong", namespace)
    release.wait("wrong", namespace)


def test_24_unknown_names_and_broken_bodies_are_errors_that_say_what_is_wrong(release: Release, home: str) -> None:
    reply = ask(release.address, "/engine/inference", {"model": "nobody", "messages": HELLO})
    assert (reply.status, reply.envelope["code"]) == (404, "not_found")
    reply = ask(release.address, "/engine/inference", {"model": NAME, "messages": [{"role": "king", "content": "x"}]})
    assert reply.status == 400
    assert "messages[0].role" in reply.msg


@pytest.mark.parametrize("relayed", [False, True], ids=["direct", "through 9527"])
def test_24_an_engine_that_is_killed_mid_stream_ends_the_answer_with_an_error(
    release: Release, node: Node, namespace: str, client: ChatClient, relayed: bool
) -> None:
    # A name of its own: the namespace of the other case may still be there, and has its name though its pod is dead.
    name = "dying-behind-9527" if relayed else "dying"
    release.apply(name, namespace)
    release.wait(name, namespace)
    # A front door hears of it a moment later.
    client.wait_service_available(name, 10)
    streaming = Streaming(release.address, name, relayed=relayed)
    pod = release.pods(name, namespace)[0]["metadata"]["name"]
    os.kill(node.pid_of(pod, namespace, "engine"), signal.SIGKILL)
    streaming.finish()
    assert isinstance(streaming.failure, errors.StreamBroken)
    processes.until(lambda: release.services(namespace) == [], 5, "its leaving the registry")


def test_22_uninstalling_stops_the_engines_and_leaves_no_registry(release: Release, home: str) -> None:
    engine = Following(release, release.pods("chat", home)[0]["metadata"]["name"], home)
    words = ("get", "pods", "-n", release.namespace, "-l", "app.kubernetes.io/component=front-door", "-o", "json")
    [door, *_] = json.loads(release.plane.kubectl(*words))["items"]
    front_door = Following(release, door["metadata"]["name"], release.namespace)
    release.plane.helm("uninstall", "modelengine", "-n", release.namespace, "--timeout=180s")
    assert "ModelEngineInferenceEngine clean_up!" in engine.text()
    assert "ModelEngineNameServer clean_up!" in front_door.text()
    processes.until(lambda: release.pods("chat", home) == [], 60, "the end of the engines")
    assert release.registry(home) == {}
    release.plane.kubectl("delete", "me/chat", "-n", home, "--timeout=10s")
