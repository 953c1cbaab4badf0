"""The CRD on a real API server: what it takes, what it refuses and with which words, and how it reads."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import crd_values
from cluster.harness.control_plane import CommandFailed, ControlPlane
from crd_values import Row
from modelengine import kinds
from modelengine_operator import crd, status

Command = Callable[..., str]
ROOT = Path(__file__).parents[2]
CRD = ROOT / crd.FILE
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
DEMO: dict[str, Any] = {"model": {"source": "demo://"}}
HUB: dict[str, Any] = {"model": {"source": "hf://a/b"}}
STATUS: dict[str, Any] = {
    "observedGeneration": 1,
    "conditions": [
        {
            "type": "Ready",
            "status": "False",
            "reason": "Downloading",
            "message": "1 of 2 replicas ready; a replica is downloading, 3.1 of 8.2 GB",
            "lastTransitionTime": "2026-11-24T10:00:00Z",
            "observedGeneration": 1,
        }
    ],
    "servedName": "Qwen/Qwen3",
    "reason": "Downloading: 38 %",
    "replicas": 2,
    "readyReplicas": 1,
    "ready": "1/2",
    "selector": "app.kubernetes.io/name=modelengine-engine,modelengine.dev/engine=qwen",
    "endpoints": [{"uid": "u-1", "pod": "qwen-engine-1", "host": "10.0.0.1", "port": 8000}],
    "model": {
        "parameters": 596_049_920,
        "contextLength": 40_960,
        "architecture": "Qwen3ForCausalLM",
        "dtype": "bfloat16",
        "device": "cuda",
    },
    "loading": {"stage": "downloading", "bytes": 3_100_000_000, "total": 8_200_000_000},
}


@pytest.fixture(scope="module")
def server(control_plane: ControlPlane) -> Iterator[Server]:
    """The API server with the CRD, asked without a process for each question."""
    install(control_plane)
    argv = ["kubectl", "proxy", "--port=0"]
    with subprocess.Popen(argv, env=control_plane.environment, stdout=subprocess.PIPE, text=True) as proxy:
        assert proxy.stdout is not None
        yield Server("http://" + proxy.stdout.readline().split()[-1])
        proxy.terminate()


def install(control_plane: ControlPlane) -> None:
    control_plane.kubectl("apply", "--server-side", "-f", CRD)
    control_plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", CRD)


class Server:
    def __init__(self, url: str) -> None:
        self.url = f"{url}/apis/{kinds.API_VERSION}/namespaces/default/{kinds.PLURAL}"

    def create(self, spec: dict[str, Any], name: str = "qwen") -> dict[str, Any]:
        """What would be stored: the object, or a Status that says why not."""
        return self._send("POST", "?dryRun=All&fieldValidation=Strict", engine(spec, name=name))

    def refusal(self, spec: dict[str, Any], name: str = "qwen") -> str:
        answer = self.create(spec, name)
        assert answer["kind"] == "Status", f"was taken: {answer}"
        return str(answer["message"])

    def store(self, spec: dict[str, Any]) -> dict[str, Any]:
        return self._send("POST", "?fieldValidation=Strict", engine(spec))

    def change(self, spec: dict[str, Any]) -> dict[str, Any]:
        """The answer to the stored object's change to this spec."""
        stored = self._send("GET", "/qwen")
        return self._send("PUT", "/qwen?dryRun=All", stored | {"spec": spec})

    def remove(self) -> None:
        self._send("DELETE", "/qwen")

    def _send(self, method: str, where: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + where, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as refused:
            with refused:
                return dict(json.load(refused))


def engine(spec: dict[str, Any], *, name: str = "qwen", **more: Any) -> dict[str, Any]:
    return {"apiVersion": kinds.API_VERSION, "kind": kinds.KIND, "metadata": {"name": name}, "spec": spec, **more}


def shown(row: Row) -> str:
    return row.path.replace(crd_values.REQUIRED, "required").replace(crd_values.PREFERRED, "preferred")


def test_applying_it_twice_changes_nothing_and_it_is_established(control_plane: ControlPlane) -> None:
    versions = []
    for _ in range(2):
        install(control_plane)
        found = json.loads(control_plane.kubectl("get", "-f", CRD, "-o", "json"))
        versions.append((found["metadata"]["generation"], found["metadata"]["resourceVersion"]))
        conditions = {condition["type"]: condition["status"] for condition in found["status"]["conditions"]}
        # NonStructuralSchema and KubernetesAPIApprovalPolicyConformant stand there only where something is wrong.
        assert conditions == {"NamesAccepted": "True", "Established": "True"}
    assert versions[0] == versions[1]


@pytest.mark.parametrize("row", [row for row in crd_values.ROWS if row.good], ids=shown)
def test_a_boundary_value_is_taken(server: Server, row: Row) -> None:
    for spec in row.specs():
        answer = server.create(spec)
        assert answer["kind"] == kinds.KIND, answer["message"]


@pytest.mark.parametrize("row", [row for row in crd_values.ROWS if row.bad], ids=shown)
def test_a_bad_value_is_refused_with_the_field_and_what_is_allowed(server: Server, row: Row) -> None:
    for spec, bad in row.bad_specs():
        message = server.refusal(spec)
        assert row.where(bad) in message
        assert bad.message in message


@pytest.mark.parametrize("name", ["a", "a-1", "a" * 50])
def test_a_name_that_children_can_carry_is_taken(server: Server, name: str) -> None:
    assert server.create(DEMO, name)["kind"] == kinds.KIND


@pytest.mark.parametrize("name", ["1a", "a.b", "a" * 51])
def test_a_name_that_children_can_not_carry_is_refused(server: Server, name: str) -> None:
    assert "metadata.name must start with a letter" in server.refusal(DEMO, name)


def test_what_is_required_is_named_when_it_is_not_there(server: Server) -> None:
    assert "spec.model: Required value" in server.refusal({})
    assert "spec.model.source: Required value" in server.refusal({"model": {"name": "a"}})


@pytest.mark.parametrize("path", ["", "model", "runtime", "cache", "affinity", "tolerations[0]", "resources"])
def test_an_unknown_field_is_refused_by_name(server: Server, path: str) -> None:
    spec = copy.deepcopy(crd_values.FULL)
    record: Any = spec
    for step in re.findall(r"\w+", path):
        record = record[int(step) if step.isdigit() else step]
    record["serviceAccountName"] = "admin"
    where = f"spec.{path}.".replace("..", ".")
    assert f'unknown field "{where}serviceAccountName"' in server.refusal(spec)


def test_what_is_not_given_is_there_on_read_back(server: Server) -> None:
    assert server.create(HUB | {"cache": {"size": "1Gi"}})["spec"] == {
        "model": {"source": "hf://a/b"},
        "protocol": "chat",
        "runtime": {
            "device": "auto",
            "dtype": "auto",
            "quantization": "none",
            "maxBatchSize": 32,
            "maxContext": 0,
            "maxQueue": 256,
            "threads": 0,
        },
        "replicas": 1,
        "cache": {"size": "1Gi", "accessMode": "ReadWriteOnce"},
        "shmSize": "64Mi",
        "gracePeriodSeconds": 60,
        "startupSeconds": 3600,
        "rollout": "Surge",
    }


def test_all_fields_together_are_kept_as_they_were_written(server: Server) -> None:
    assert server.create(crd_values.FULL)["spec"] == crd_values.FULL


CACHE = {"size": "2Gi", "storageClass": "fast", "accessMode": "ReadWriteOnce"}


@pytest.mark.parametrize(
    ("cache", "message"),
    [
        ({"size": "1999Mi"}, "spec.cache.size: "),
        ({"storageClass": "slow"}, "spec.cache.storageClass: "),
        ({"storageClass": None}, "spec.cache.storageClass: "),
        ({"accessMode": "ReadWriteMany"}, "spec.cache.accessMode: "),
    ],
)
def test_what_a_volume_can_not_become_is_refused_later(server: Server, cache: dict[str, Any], message: str) -> None:
    server.store(HUB | {"cache": CACHE})
    changed = {key: value for key, value in (CACHE | cache).items() if value is not None}
    answer = server.change(HUB | {"cache": changed})
    server.remove()
    assert message in answer["message"]
    assert "delete the ModelEngine and make it anew" in answer["message"]


@pytest.mark.parametrize(
    "cache", [CACHE | {"size": "2048Mi"}, CACHE | {"size": "3Gi"}, {"claim": "models"}, None], ids=str
)
def test_a_cache_may_grow_move_or_go(server: Server, cache: dict[str, str] | None) -> None:
    server.store(HUB | {"cache": CACHE})
    answer = server.change(HUB | ({"cache": cache} if cache else {}))
    server.remove()
    assert answer["kind"] == kinds.KIND, answer["message"]


def test_a_full_status_reads_back_as_it_was_written(
    control_plane: ControlPlane, server: Server, namespace: str
) -> None:
    control_plane.kubectl("create", "-n", namespace, "-f", "-", stdin=json.dumps(engine(DEMO)))
    written = json.dumps(
        {"apiVersion": kinds.API_VERSION, "kind": kinds.KIND, "metadata": {"name": "qwen"}, "status": STATUS}
    )
    words = ("apply", "--server-side", "--subresource=status", f"--field-manager={kinds.MANAGER}")
    control_plane.kubectl(*words, "-n", namespace, "-f", "-", stdin=written)
    stored = json.loads(control_plane.kubectl("get", "me/qwen", "-n", namespace, "-o", "json"))
    assert stored["status"] == STATUS
    assert stored["metadata"]["generation"] == 1


def test_a_status_at_its_bounds_is_taken_and_one_over_them_is_refused(
    control_plane: ControlPlane, server: Server, namespace: str
) -> None:
    def written(**fields: Any) -> str:
        patch = json.dumps({"status": STATUS | fields})
        words = ("patch", "me/qwen", "-n", namespace, "--subresource=status", "--type=merge", "--patch-file=/dev/stdin")
        return control_plane.kubectl(*words, stdin=patch)

    control_plane.kubectl("create", "-n", namespace, "-f", "-", stdin=json.dumps(engine(DEMO)))
    [condition], [endpoint] = STATUS["conditions"], STATUS["endpoints"]
    endpoints = [endpoint | {"uid": f"u-{number}"} for number in range(status.MAX_ENDPOINTS)]
    longest = condition | {"message": "x" * status.MAX_MESSAGE, "reason": "x" * status.MAX_REASON}
    largest = {"parameters": status.MAX_NUMBER, "architecture": "x" * status.MAX_WORD}
    assert "patched" in written(conditions=[longest], endpoints=endpoints, model=largest)

    with pytest.raises(CommandFailed, match=rf"status\.conditions\[0\]\.message.*{status.MAX_MESSAGE}"):
        written(conditions=[longest | {"message": "x" * (status.MAX_MESSAGE + 1)}])
    with pytest.raises(CommandFailed, match=r"status\.model\.parameters"):
        written(model={"parameters": 2 * status.MAX_NUMBER})


@pytest.fixture
def qwen(control_plane: ControlPlane, server: Server, namespace: str) -> str:
    """The namespace of a ModelEngine whose status is full."""
    spec = HUB | {"model": {"name": "Qwen/Qwen3", "source": "hf://Qwen/Qwen3@main"}, "replicas": 2}
    control_plane.kubectl("create", "-n", namespace, "-f", "-", stdin=json.dumps(engine(spec)))
    patch = json.dumps({"status": STATUS})
    control_plane.kubectl("patch", "me/qwen", "-n", namespace, "--subresource=status", "--type=merge", "-p", patch)
    return namespace


def test_the_list_answers_what_one_asks_first(kubectl: Command, qwen: str) -> None:
    heading, row = kubectl("get", "me", "-n", qwen).splitlines()
    assert re.split(r"\s{2,}", heading.strip()) == ["NAME", "MODEL", "READY", "REPLICAS", "REASON", "AGE"]
    assert re.split(r"\s{2,}", row.strip())[:-1] == ["qwen", "Qwen/Qwen3", "False", "1/2", "Downloading: 38 %"]


def test_the_wide_list_says_more(kubectl: Command, qwen: str) -> None:
    heading, row = kubectl("get", "me", "-n", qwen, "-o", "wide").splitlines()
    assert re.split(r"\s{2,}", heading.strip())[6:] == ["PROTOCOL", "SOURCE", "DEVICE", "STAGE", "MESSAGE"]
    assert re.split(r"\s{2,}", row.strip())[6:] == [
        "chat",
        "hf://Qwen/Qwen3@main",
        "cuda",
        "downloading",
        STATUS["conditions"][0]["message"],
    ]


@pytest.mark.parametrize("word", ["me", "modelengine", "modelengines", "all"])
def test_it_is_found_by_each_of_its_names(kubectl: Command, qwen: str, word: str) -> None:
    assert "qwen" in kubectl("get", word, "-n", qwen)


def test_it_is_found_by_what_it_serves(kubectl: Command, qwen: str) -> None:
    def found(selector: str) -> str:
        return kubectl("get", "me", "-n", qwen, "-o", "name", f"--field-selector={selector}")

    assert found("status.servedName=Qwen/Qwen3") == found("spec.model.source=hf://Qwen/Qwen3@main") != ""
    assert found("status.servedName=other") == ""


def test_it_is_scaled_like_a_deployment(kubectl: Command, qwen: str) -> None:
    kubectl("scale", "me/qwen", "--replicas=3", "-n", qwen)
    scale = json.loads(kubectl("get", "me/qwen", "-n", qwen, "--subresource=scale", "-o", "json"))
    assert scale["spec"] == {"replicas": 3}
    assert scale["status"] == {"replicas": 2, "selector": STATUS["selector"]}
    with pytest.raises(CommandFailed, match=r"spec\.replicas"):
        kubectl("scale", "me/qwen", "--replicas=1001", "-n", qwen)


def test_a_user_s_change_to_the_status_beside_the_spec_is_ignored(kubectl: Command, qwen: str) -> None:
    kubectl("patch", "me/qwen", "-n", qwen, "--type=merge", "-p", '{"status": {"reason": "Fine"}}')
    assert json.loads(kubectl("get", "me/qwen", "-n", qwen, "-o", "json"))["status"] == STATUS


def test_explain_reads_well(kubectl: Command, server: Server) -> None:
    told = " ".join(kubectl("explain", "modelengine.spec.model").split())
    assert "name <string> The name that clients ask for; no spaces. Default: the ModelEngine's own name." in told
    assert "source <string> -required- Where the model's files come from: demo:// (the small bundled model)," in told
    told = " ".join(kubectl("explain", "me.spec").split())
    assert "rollout <string> enum: Surge, InPlace How a change reaches the pods." in told
    assert "shmSize <string> The size of /dev/shm" in told
    assert "A model that is served under a name" in kubectl("explain", "me")


def test_explain_has_words_for_every_field(kubectl: Command, server: Server) -> None:
    assert "<no description>" not in kubectl("explain", "me", "--recursive")
    for path in ("spec.runtime", "spec.cache", "spec.resources", "spec.tolerations", "status", "status.conditions"):
        assert "<no description>" not in kubectl("explain", f"me.{path}")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_taken(kubectl: Command, server: Server, namespace: str, example: Path) -> None:
    assert "created (server dry run)" in kubectl(
        "apply", "--dry-run=server", "--validate=strict", "-n", namespace, "-f", example
    )
    text = example.read_text()
    assert text.startswith("# ")
    [document] = list(yaml.safe_load_all(text))
    assert document["kind"] == kinds.KIND


def test_there_is_an_example_of_each_kind() -> None:
    sources = {yaml.safe_load(path.read_text())["spec"]["model"]["source"].split("://")[0] for path in EXAMPLES}
    assert {"demo", "hf", "pvc"} <= sources
