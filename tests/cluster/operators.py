"""The operator as a process on a real API server, with the rights that the chart gives it and no others.

`Site` is a namespace and what tests ask of its ModelEngines; `Home` is one with the operator's ServiceAccount in it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

import processes
from cluster.admin import Admin, Object
from cluster.harness.audit import WRITES, Call
from cluster.harness.control_plane import ControlPlane
from cluster.harness.processes import answers, until
from modelengine import kinds
from modelengine_kube import resources
from modelengine_kube.resources import Resource

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "modelengine"
CRD = ROOT / "crds" / "modelengines.yaml"
ACCOUNT = "modelengine-operator"
UNINSTALLER = "modelengine-uninstall"
IMAGE = "engine.test/engine:1"
GRANTS = ("ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")
CHILDREN = (
    resources.DEPLOYMENTS,
    resources.SERVICES,
    resources.SERVICE_ACCOUNTS,
    resources.BUDGETS,
    resources.CLAIMS,
)
# What is looked at again because nothing tells that it has changed is looked at sooner.
SOON = """
from modelengine_operator import findings, reconciler
reconciler.WRITE_AGAIN_S = reconciler.LOOK_AGAIN[findings.OBJECT_CONFLICT] = 3.0
"""
# Minutes each: not in every run.
IS_LONG = bool(os.environ.get("MODELENGINE_TEST_LONG"))
long = pytest.mark.skipif(not IS_LONG, reason="takes long: set MODELENGINE_TEST_LONG=1")
# On a busy machine everything takes its time; what must be quick says so itself.
PATIENCE_S = 60.0
# What differs from one run to the next although nothing is different.
MASKED = (
    *("uid", "resourceVersion", "creationTimestamp", "managedFields", "generation", "lastTransitionTime"),
    *("clusterIP", "clusterIPs"),
    # It has the owner's uid in it.
    f"{kinds.GROUP}/applied",
)


def install_crd(plane: ControlPlane) -> None:
    plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", CRD)
    # Asked for, not waited for: a CRD that is seconds old has no conditions, and `kubectl wait` stumbles over that.
    until(lambda: plane.alive(f"/apis/{kinds.API_VERSION}/{kinds.PLURAL}"), PATIENCE_S, "the CRD is served")


def forbidden(plane: ControlPlane, user: str, since: int) -> list[str]:
    """What a user asked for and has no right to; a quota's or a policy's refusal is another thing."""
    with plane.audit.path.open("rb") as log:
        log.seek(since)
        records = [json.loads(line) for line in log if line.endswith(b"\n")]
    return [
        f"{record['verb']} {record['requestURI']}"
        for record in records
        if record["user"].get("username") == user
        and record.get("annotations", {}).get("authorization.k8s.io/decision") == "forbid"
    ]


class Site:
    """A namespace. `user` is the operator that works in it."""

    def __init__(self, plane: ControlPlane, namespace: str, user: str) -> None:
        self.plane = plane
        self.namespace = namespace
        self.user = user
        self.admin = Admin(plane)

    def close(self) -> None:
        self.admin.close()

    def engine(self, name: str, namespace: str = "", source: str = "demo://", **spec: Any) -> Object:
        """Makes a ModelEngine."""
        model = {"source": source, **spec.pop("model", {})}
        meta = {"name": name, "namespace": namespace or self.namespace}
        return self.admin.create(resources.MODELENGINES, {"metadata": meta, "spec": {"model": model, **spec}})

    def change(self, name: str, **spec: Any) -> Object:
        return self.admin.merge(resources.MODELENGINES, self.namespace, name, {"spec": spec})

    def delete(self, name: str) -> None:
        self.admin.delete(resources.MODELENGINES, self.namespace, name)

    def get(self, name: str, namespace: str = "") -> Object:
        return self.admin.get(resources.MODELENGINES, namespace or self.namespace, name)

    def status(self, name: str, namespace: str = "") -> Object:
        status: Object = self.get(name, namespace).get("status", {})
        return status

    def reason(self, name: str, namespace: str = "") -> str:
        return str(self.status(name, namespace).get("reason", ""))

    def condition(self, name: str, kind: str = "Ready") -> Object:
        return next((c for c in self.status(name).get("conditions", ()) if c["type"] == kind), {})

    def until_reason(self, name: str, begins: str, timeout_s: float = PATIENCE_S, namespace: str = "") -> None:
        """Until the status is of the newest spec and its reason begins so."""
        seen: Object = {}

        def is_so() -> bool:
            nonlocal seen
            seen = self.get(name, namespace)
            status = seen.get("status", {})
            is_new = status.get("observedGeneration") == seen["metadata"]["generation"]
            return is_new and str(status.get("reason", "")).startswith(begins)

        try:
            until(is_so, timeout_s, f"{name}: {begins}")
        except AssertionError as late:
            raise AssertionError(f"{late}; its status: {json.dumps(seen.get('status'), indent=1)}") from None

    def registry(self, namespace: str = "") -> dict[str, Any]:
        """What the registry holds, by key."""
        found = self.admin.find(resources.CONFIG_MAPS, namespace or self.namespace, kinds.REGISTRY_NAME)
        return {key: json.loads(value) for key, value in ((found or {}).get("data") or {}).items()}

    def listed(self, name: str, namespace: str = "") -> list[str]:
        """The pods that the registry lists under a served name."""
        found = self.registry(namespace).get(f"chat.{name}", {"services": []})
        return [service["pod"] for service in found["services"]]

    def pods(self, name: str, namespace: str = "") -> list[Object]:
        """Those that stay."""
        selector = kinds.as_selector(kinds.selector(name))
        found = self.admin.list(resources.PODS, namespace or self.namespace, selector)
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def child(self, name: str, resource: Resource = resources.DEPLOYMENTS) -> Object | None:
        return self.admin.find(resource, self.namespace, kinds.child_name(name))

    def events(self, name: str) -> list[Object]:
        """The operator's, of one ModelEngine, the oldest first."""
        found = self.admin.list(resources.EVENTS, self.namespace)
        ours = [e for e in found if e["involvedObject"]["kind"] == kinds.KIND and e["involvedObject"]["name"] == name]
        return sorted(ours, key=lambda event: int(event["metadata"]["resourceVersion"]))

    def calls(self, since: int = 0, verbs: Collection[str] = WRITES, user: str = "") -> list[Call]:
        """The operator's in this namespace, but for its Lease."""
        found = self.plane.audit.calls(user=user or self.user, namespace=self.namespace, verbs=verbs, since=since)
        return [call for call in found if call.resource != "leases"]

    def version(self) -> str:
        """Now; for `history`."""
        return str(self.admin.call("GET", resources.CONFIG_MAPS.path(self.namespace))["metadata"]["resourceVersion"])

    def history(self, resource: Resource, since: str, name: str = "") -> list[Object]:
        """Each state that objects of a kind were in since then, in order; `gone` in those that were deleted."""
        fields = f"metadata.name={name}" if name else ""
        events = list(self.admin.watch(resource, self.namespace, since, timeoutSeconds="1", fieldSelector=fields))
        return [{**e["object"], "gone": e["type"] == "DELETED"} for e in events if e["type"] != "BOOKMARK"]

    def pods_made(self, since: int = 0) -> list[Call]:
        calls = self.plane.audit.calls(user=":replicaset-controller", verbs=["create"], since=since)
        return [c for c in calls if c.resource == "pods" and c.namespace == self.namespace and c.code == 201]

    def until_quiet(self, quiet_s: float = 2.0, timeout_s: float = PATIENCE_S) -> None:
        """Until the operator has written nothing for a while."""
        deadline = time.monotonic() + timeout_s
        while True:
            mark = self.plane.audit.mark()
            time.sleep(quiet_s)
            if not (calls := self.calls(mark)):
                return
            assert time.monotonic() < deadline, f"still writes: {calls[-5:]}"

    def dump(self) -> Object:
        """All that belongs to ModelEngines in the namespace, without what no two runs share."""
        names: dict[str, str] = {}
        found = {
            resource.plural: [_masked(obj, names) for obj in self.admin.list(resource, self.namespace)]
            for resource in (resources.MODELENGINES, resources.PODS, resources.CONFIG_MAPS, *CHILDREN)
        }
        text = json.dumps({plural: [o for o in objects if _is_of_interest(o)] for plural, objects in found.items()})
        for name, mask in names.items():
            text = text.replace(name, mask)
        dumped: Object = json.loads(text)
        return dumped


class Home(Site):
    """Where an operator lives: with its ServiceAccount. `everywhere`: it works in all namespaces, else in this one."""

    def __init__(self, plane: ControlPlane, namespace: str, *, everywhere: bool = False) -> None:
        super().__init__(plane, namespace, f"system:serviceaccount:{namespace}:{ACCOUNT}")
        self.everywhere = everywhere
        self.grants = _grants(plane, namespace, everywhere)
        plane.apply(*self.grants)
        self.kubeconfig = plane.kubeconfig_of(ACCOUNT, namespace)

    def close(self) -> None:
        super().close()
        for grant in self.grants:
            if grant["kind"].startswith("Cluster"):
                self.plane.kubectl("delete", grant["kind"], grant["metadata"]["name"], "--ignore-not-found")


class Operator:
    """One process. `server` instead of the API server's own address; `code` runs before it, to shorten its patience."""

    main = "from modelengine_operator.__main__ import main; import sys; sys.exit(main())"

    def __init__(self, home: Home, *, name: str = "operator-0", server: str = "", code: str = "") -> None:
        self.home = home
        self.name = name
        self.port = processes.free_port()
        self.log = home.plane.folder / "logs" / f"{home.namespace}.{name}.log"
        self._kubeconfig = home.kubeconfig if not server else _through(home.kubeconfig, server)
        self._code = code
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def output(self) -> str:
        return self.log.read_text()

    @property
    def is_healthy(self) -> bool:
        return answers(f"http://127.0.0.1:{self.port}/healthz")

    def start(self, **more: str) -> None:
        variables = {
            "MODELENGINE_NAMESPACE": self.home.namespace,
            "MODELENGINE_NAMESPACES": "" if self.home.everywhere else self.home.namespace,
            "MODELENGINE_POD_NAME": self.name,
            "MODELENGINE_ENGINE_IMAGE": IMAGE,
            "MODELENGINE_ALLOWED_IMAGES": "engine.test/*",
            "MODELENGINE_HEALTH_PORT": str(self.port),
            "KUBECONFIG": str(self._kubeconfig),
            "PYTHONPATH": str(ROOT / "tests"),
            **more,
        }
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", f"{self._code}\n{self.main}"],
                env={**self.home.plane.environment, **variables},
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )

    def wait_ready(self) -> None:
        until(lambda: self.is_healthy, PATIENCE_S, "a healthy operator")

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)

    def stop(self, timeout_s: float = 30) -> int:
        """SIGTERM; gives the exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(timeout_s)

    def wait_end(self, timeout_s: float = PATIENCE_S) -> int:
        assert self._process is not None
        return self._process.wait(timeout_s)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)


@contextmanager
def running(home: Home, **options: Any) -> Iterator[Operator]:
    """A healthy one; at its end its log must have no mistake of ours."""
    operator = Operator(home, **options)
    operator.start()
    try:
        operator.wait_ready()
        yield operator
    except BaseException:
        print(f"the operator's log ends:\n{operator.output[-6000:]}")
        raise
    finally:
        if operator.is_running:
            operator.kill()
    assert "Traceback" not in operator.output, operator.output[-6000:]


@contextmanager
def home(plane: ControlPlane, namespace: str, *, everywhere: bool = False) -> Iterator[Home]:
    """The CRD and an operator's account."""
    install_crd(plane)
    made = Home(plane, namespace, everywhere=everywhere)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def everywhere(plane: ControlPlane, namespace: str, **options: Any) -> Iterator[Operator]:
    """One that runs in a new namespace and works in all."""
    plane.create_namespace(namespace)
    with home(plane, namespace, everywhere=True) as made, running(made, **options) as operator:
        yield operator
    plane.kubectl("delete", "namespace", namespace, "--wait=false")


_rendered: dict[tuple[str, bool], str] = {}


def _grants(plane: ControlPlane, namespace: str, everywhere: bool) -> list[Any]:
    """The chart's, of the operator and of the uninstallation."""
    key = (plane.name, everywhere)
    if key not in _rendered:
        sets = [] if everywhere else ["--set", "watchNamespaces={the-namespace}"]
        _rendered[key] = plane.helm("template", "modelengine", CHART, "-n", "the-namespace", *sets)
    objects = yaml.safe_load_all(_rendered[key].replace("the-namespace", namespace))
    found = [obj for obj in objects if obj and obj["kind"] in GRANTS]
    chosen = [obj for obj in found if obj["metadata"]["name"].startswith((ACCOUNT, UNINSTALLER))]
    if everywhere:
        # Two sites may be there at once.
        for obj in chosen:
            if obj["kind"].startswith("Cluster"):
                obj["metadata"]["name"] += f"-{namespace}"
                if "roleRef" in obj:
                    obj["roleRef"]["name"] = obj["metadata"]["name"]
    return chosen


def _through(kubeconfig: Path, server: str) -> Path:
    """The same, by way of a proxy."""
    config = json.loads(kubeconfig.read_text())
    config["clusters"][0]["cluster"] = {"server": server}
    path = kubeconfig.with_suffix(f".{server.rpartition(':')[2]}")
    path.touch(mode=0o600)
    path.write_text(json.dumps(config))
    return path


def _is_of_interest(obj: Object) -> bool:
    labels = obj["metadata"].get("labels", {})
    return ("spec" in obj and "model" in obj["spec"]) or labels.get(kinds.LABEL_MANAGED_BY) == kinds.MANAGER


def _masked(obj: Object, names: dict[str, str]) -> Object:
    """`names` learns what must be masked wherever it is written: uids, pods' names and addresses."""
    meta = obj["metadata"]
    names[meta["uid"]] = "UID"
    for owner in meta.get("ownerReferences", ()):
        names[owner["uid"]] = "UID"
    if "generateName" in meta:
        names[meta["name"]] = "POD"
    if address := obj.get("status", {}).get("podIP"):
        names[address] = "IP"
    # The controllers' own notes; what they amount to is in the other objects.
    kept = {key: value for key, value in obj.items() if key != "status" or "model" in obj.get("spec", {})}
    masked: Object = _without(kept)
    return masked


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without(inner) for key, inner in value.items() if key not in MASKED}
    return [_without(inner) for inner in value] if isinstance(value, list) else value
