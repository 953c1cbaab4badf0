"""The chart on a real API server: what is accepted, who may do what, and what is left when it goes.

There is no node, so no pod runs. The operator, the front door and the uninstallation run here as processes, with the
rights that the chart gives to their ServiceAccounts.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import yaml
from charts import render

from chart import rights
from cluster.harness import control_plane as control_planes
from cluster.harness.control_plane import CommandFailed, ControlPlane
from cluster.harness.processes import answers, until
from modelengine import kinds

CRD = f"crd/{kinds.PLURAL}.{kinds.GROUP}"
KEEP_ENGINES = "uninstall.stopEngines=false"
NOTHING_CLUSTER_WIDE = ("crds.install=false", "rbac.aggregate=false")
# What a namespace has by itself, and what passes by itself.
OF_KUBERNETES = {"configmap/kube-root-ca.crt", "serviceaccount/default"}
CLUSTER_WIDE = "clusterroles,clusterrolebindings,crds"
ENGINE: dict[str, Any] = {
    "apiVersion": kinds.API_VERSION,
    "kind": kinds.KIND,
    "spec": {"model": {"source": "demo://"}},
}


@pytest.fixture(scope="module")
def control_plane() -> Iterator[ControlPlane]:
    """One of our own: the CRD comes and goes here."""
    with control_planes.running(f"chart-{os.getpid()}") as plane:
        yield plane


@pytest.fixture
def home(control_plane: ControlPlane, namespace: str) -> Iterator[str]:
    """A namespace that takes restricted pods only; afterwards nothing of a release is in the cluster."""
    control_plane.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    yield namespace
    for release in json.loads(control_plane.helm("list", "-n", namespace, "-o", "json")):
        control_plane.helm("uninstall", release["name"], "-n", namespace, "--no-hooks")
    control_plane.kubectl("delete", CRD, "--ignore-not-found", "--wait=false")
    control_plane.kubectl("delete", CLUSTER_WIDE, "-l", "app.kubernetes.io/part-of=modelengine", "--wait=false")
    until(lambda: not control_plane.kubectl("get", CRD, "--ignore-not-found"), 60, "the end of the CRD")


@pytest.fixture
def team(control_plane: ControlPlane, home: str) -> Iterator[str]:
    """A second namespace, for engines."""
    control_plane.create_namespace(f"{home}-team")
    yield f"{home}-team"
    control_plane.kubectl("delete", "namespace", f"{home}-team", "--wait=false")


def install(
    plane: ControlPlane, home: str, *sets: str, release: str = "modelengine", more: tuple[str, ...] = ()
) -> str:
    chosen = [word for assignment in sets for word in ("--set", assignment)]
    return plane.helm("install", "modelengine", render.CHART, "-n", home, *chosen, *more)


def things(plane: ControlPlane, namespace: str) -> set[str]:
    """All that is in a namespace and does not pass by itself."""
    words = ["api-resources", "--namespaced", "--verbs=list,delete", "-o", "name"]
    names = [name for name in plane.kubectl(*words).split() if not name.startswith("events")]
    return {*plane.kubectl("get", ",".join(names), "-n", namespace, "-o", "name").split()} - OF_KUBERNETES


def cluster_wide(plane: ControlPlane) -> set[str]:
    selected = plane.kubectl("get", CLUSTER_WIDE, "-l", "app.kubernetes.io/part-of=modelengine", "-o", "name")
    return {*selected.split()}


def document(plane: ControlPlane, *words: str) -> Any:
    return json.loads(plane.kubectl("get", *words, "-o", "json"))


def hooks(plane: ControlPlane, home: str, event: str, *sets: str) -> list[Any]:
    chosen = [word for assignment in sets for word in ("--set", assignment)]
    rendered = plane.helm("template", "modelengine", render.CHART, "-n", home, *chosen)
    objects = [obj for obj in yaml.safe_load_all(rendered) if obj]
    return [obj for obj in objects if (obj["metadata"].get("annotations") or {}).get("helm.sh/hook") == event]


def granted(plane: ControlPlane, account: str, home: str, namespace: str) -> set[rights.Right]:
    """What the API server says that a ServiceAccount may do in a namespace, beyond what everybody may."""

    def of(user: str) -> set[rights.Right]:
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectRulesReview",
            "spec": {"namespace": namespace},
        }
        groups = [f"--as-group=system:serviceaccounts{suffix}" for suffix in ("", f":{home}")]
        words = ["create", "--validate=false", "-f", "-", "-o", "json", f"--as={user}", *groups]
        status = json.loads(plane.kubectl(*words, stdin=json.dumps(review)))["status"]
        return {right for rule in status["resourceRules"] for right in rights.of_rule(rule)}

    return of(f"system:serviceaccount:{home}:{account}") - of(f"system:serviceaccount:{home}:nobody")


@contextmanager
def process(plane: ControlPlane, module: str, account: str, home: str, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process of the chart, outside a pod but with its ServiceAccount's rights."""
    variables = {
        **plane.environment,
        "KUBECONFIG": str(plane.kubeconfig_of(account, home)),
        "MODELENGINE_NAMESPACE": home,
        **env,
    }
    log = plane.folder / "logs" / f"{account}.log"
    with log.open("a") as output:
        running = subprocess.Popen(
            [sys.executable, "-m", module], env=variables, stdout=output, stderr=output, text=True
        )
        try:
            yield running
        finally:
            running.terminate()
            running.wait(30)


def refused(plane: ControlPlane, account: str, home: str) -> list[str]:
    calls = plane.audit.calls(user=f"system:serviceaccount:{home}:{account}")
    assert calls, f"{account} asked nothing"
    return [f"{call.verb} {call.resource} in {call.namespace}" for call in calls if call.code in (401, 403)]


def test_install_upgrade_rollback_and_uninstall_leave_only_the_crd(control_plane: ControlPlane, home: str) -> None:
    def replicas() -> int:
        return int(document(control_plane, "deployment", "modelengine-front-door", "-n", home)["spec"]["replicas"])

    assert "ModelEngine 0.1.0 is installed" in install(control_plane, home, KEEP_ENGINES)
    # The namespace takes restricted pods only, and a ReplicaSet makes none that is refused.
    until(lambda: len(document(control_plane, "pods", "-n", home)["items"]) == 3, 20, "operator and two front doors")
    control_plane.kubectl("wait", CRD, "--for=condition=Established", "--timeout=20s")
    control_plane.apply({**ENGINE, "metadata": {"name": "demo", "namespace": home}})

    control_plane.helm(
        "upgrade", "modelengine", render.CHART, "-n", home, "--reuse-values", "--set", "frontDoor.replicas=3"
    )
    assert replicas() == 3
    control_plane.helm("rollback", "modelengine", "1", "-n", home)
    assert replicas() == 2

    control_plane.helm("uninstall", "modelengine", "-n", home)
    until(
        lambda: things(control_plane, home) == {f"modelengine.{kinds.GROUP}/demo"}, 20, "the end of all but the model"
    )
    assert cluster_wide(control_plane) == {f"customresourcedefinition.apiextensions.k8s.io/{CRD.split('/')[1]}"}
    # What was kept is no obstacle.
    install(control_plane, home, KEEP_ENGINES)


def test_a_crd_that_is_not_kept_goes_with_the_release_and_its_job_does_not_miss_it(
    control_plane: ControlPlane, home: str
) -> None:
    install(control_plane, home, "crds.keep=false")
    control_plane.apply(*hooks(control_plane, home, "post-delete")[:3])
    control_plane.helm("uninstall", "modelengine", "-n", home, "--no-hooks")
    until(lambda: not any("customresource" in name for name in cluster_wide(control_plane)), 20, "the end of the CRD")
    with process(control_plane, "modelengine_operator.uninstall", "modelengine-uninstall", home) as uninstall:
        assert uninstall.wait(30) == 0


def test_a_crd_of_somebody_else_is_taken_over_only_on_request(control_plane: ControlPlane, home: str) -> None:
    for _ in range(2):
        control_plane.kubectl("apply", "--server-side", "-f", render.CRD)
    with pytest.raises(CommandFailed, match="cannot be imported into the current release"):
        install(control_plane, home, KEEP_ENGINES)
    control_plane.helm("uninstall", "modelengine", "-n", home, "--ignore-not-found")

    install(control_plane, home, KEEP_ENGINES, "crds.install=false")
    control_plane.helm("uninstall", "modelengine", "-n", home)
    control_plane.kubectl("get", CRD)

    control_plane.kubectl("apply", "--server-side", "-f", render.CRD)
    install(control_plane, home, KEEP_ENGINES, more=("--take-ownership",))
    # And by hand again, over Helm's: what both say is the same, so there is no conflict.
    control_plane.kubectl("apply", "--server-side", "-f", render.CRD)


def test_the_plain_manifests_can_be_applied_twice_and_deleted(control_plane: ControlPlane, home: str) -> None:
    try:
        for _ in range(2):
            control_plane.kubectl("apply", "--server-side", "-f", render.PLAIN)
        until(
            lambda: len(document(control_plane, "pods", "-n", render.NAMESPACE)["items"]) == 3, 20, "the chart's pods"
        )
    finally:
        control_plane.kubectl("delete", "-f", render.PLAIN, "--ignore-not-found", "--wait=false")
    until(lambda: cluster_wide(control_plane) == set(), 30, "the end of what was applied")


def test_helms_own_pods_are_restricted_too(control_plane: ControlPlane, home: str) -> None:
    [test] = hooks(control_plane, home, "test")
    [job] = [obj for obj in hooks(control_plane, home, "post-delete") if obj["kind"] == "Job"]
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "any", "namespace": home}}
    control_plane.apply(account)
    template = job["spec"]["template"]
    template["spec"]["serviceAccountName"] = "any"
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**template["metadata"], "name": "job", "namespace": home},
        "spec": template["spec"],
    }
    for each in (test, pod):
        control_plane.kubectl("apply", "--dry-run=server", "-f", "-", stdin=json.dumps(each))


def test_policies_of_engines_can_be_added_to_more_namespaces_alone(
    control_plane: ControlPlane, home: str, team: str
) -> None:
    [command] = re.findall(r"`(helm template .* \| kubectl apply .*)`", render.INSTALL.read_text())
    told = command.replace("{team-a,team-b}", f"{{{team}}}").replace("-n modelengine", f"-n {home}")
    subprocess.run(["bash", "-ec", told], cwd=render.ROOT, env=control_plane.environment, check=True)
    assert things(control_plane, team) == {"networkpolicy.networking.k8s.io/modelengine-engines"}
    assert things(control_plane, home) == set()


def test_an_uninstallation_whose_job_cannot_run_says_so_and_leaves_its_job_alone(
    control_plane: ControlPlane, home: str
) -> None:
    install(control_plane, home)
    with pytest.raises(CommandFailed, match="modelengine-uninstall"):
        control_plane.helm("uninstall", "modelengine", "-n", home, "--timeout", "3s")
    left = {"job.batch/modelengine-uninstall"}
    until(
        lambda: {name for name in things(control_plane, home) if not name.startswith("pod")} == left,
        20,
        "all but the Job",
    )
    assert not any("role" in name for name in cluster_wide(control_plane))
    assert json.loads(control_plane.helm("list", "-n", home, "-o", "json")) == []
    # And it is no obstacle to the next.
    install(control_plane, home, KEEP_ENGINES)


def test_everywhere_the_accounts_may_do_what_is_written_down_and_no_more(
    control_plane: ControlPlane, home: str, team: str
) -> None:
    install(control_plane, home)
    control_plane.apply(*hooks(control_plane, home, "post-delete")[:3])
    for namespace in (home, team):
        lease = rights.LEASE if namespace == home else set()
        assert granted(control_plane, "modelengine-operator", home, namespace) == rights.OPERATOR | lease
        assert granted(control_plane, "modelengine-front-door", home, namespace) == rights.FRONT_DOOR
        assert granted(control_plane, "modelengine-uninstall", home, namespace) == rights.UNINSTALL


def test_in_watched_namespaces_the_accounts_may_do_nothing_elsewhere(
    control_plane: ControlPlane, home: str, team: str
) -> None:
    chosen = f"watchNamespaces={{{team}}}"
    install(control_plane, home, chosen)
    control_plane.apply(*hooks(control_plane, home, "post-delete", chosen)[:3])
    for account, expected in (
        ("modelengine-operator", rights.OPERATOR),
        ("modelengine-front-door", rights.FRONT_DOOR),
        ("modelengine-uninstall", rights.UNINSTALL),
    ):
        assert granted(control_plane, account, home, team) == expected
        assert granted(control_plane, account, home, "default") == set()
    assert granted(control_plane, "modelengine-operator", home, home) == rights.LEASE
    assert granted(control_plane, "modelengine-front-door", home, home) == set()


def test_the_front_door_lists_registries_by_name_and_nothing_else(control_plane: ControlPlane, home: str) -> None:
    install(control_plane, home)
    as_front_door = ("--kubeconfig", control_plane.kubeconfig_of("modelengine-front-door", home))
    selector = f"--field-selector=metadata.name={kinds.REGISTRY_NAME}"
    assert "No resources" not in control_plane.kubectl(
        *as_front_door, "get", "configmaps", "-A", selector, "-o", "name"
    )
    for words in (["-A"], ["-n", home], ["kube-root-ca.crt", "-n", home]):
        with pytest.raises(CommandFailed, match="forbidden"):
            control_plane.kubectl(*as_front_door, "get", "configmaps", *words)


@pytest.mark.parametrize(
    ("role", "may", "may_not"), [("view", "get", "create"), ("edit", "create", ""), ("admin", "delete", "")]
)
def test_who_has_the_clusters_own_roles_may_use_modelengines(
    control_plane: ControlPlane, home: str, role: str, may: str, may_not: str
) -> None:
    install(control_plane, home)
    control_plane.kubectl("create", "rolebinding", role, f"--clusterrole={role}", f"--user={role}-er", "-n", home)

    def can(verb: str) -> bool:
        try:
            words = ("auth", "can-i", verb, f"{kinds.PLURAL}.{kinds.GROUP}", "-n", home, f"--as={role}-er")
            return control_plane.kubectl(*words).strip() == "yes"
        except CommandFailed:
            return False

    until(lambda: can(may), 20, f"{role} includes {may}")
    assert can("get")
    assert not may_not or not can(may_not)


def test_who_rules_one_namespace_alone_can_install_there(control_plane: ControlPlane, home: str) -> None:
    control_plane.kubectl("apply", "--server-side", "-f", render.CRD)
    control_plane.kubectl("create", "rolebinding", "ruler", "--clusterrole=cluster-admin", "--user=ruler", "-n", home)
    as_ruler = ("--kube-as-user", "ruler")
    with pytest.raises(CommandFailed, match="forbidden"):
        install(control_plane, home, more=as_ruler)
    chosen = (f"watchNamespaces={{{home}}}", KEEP_ENGINES, *NOTHING_CLUSTER_WIDE)
    install(control_plane, home, *chosen, more=as_ruler)
    assert cluster_wide(control_plane) == set()
    control_plane.helm("uninstall", "modelengine", "-n", home, *as_ruler)


@pytest.mark.parametrize("everywhere", [True, False])
def test_the_processes_need_no_other_rights_and_the_uninstallation_leaves_only_what_users_wrote(
    control_plane: ControlPlane, home: str, team: str, everywhere: bool
) -> None:
    sets = () if everywhere else (f"watchNamespaces={{{team}}}",)
    where = {"MODELENGINE_NAMESPACES": "" if everywhere else team}
    install(control_plane, home, *sets)
    control_plane.apply(*hooks(control_plane, home, "post-delete", *sets)[:3])
    control_plane.kubectl("wait", CRD, "--for=condition=Established", "--timeout=20s")
    engine = {**ENGINE, "metadata": {"name": "demo", "namespace": team}}
    operator = process(
        control_plane,
        "modelengine_operator",
        "modelengine-operator",
        home,
        **where,
        MODELENGINE_ENGINE_IMAGE="modelengine-engine:test",
        MODELENGINE_HEALTH_PORT="18080",
    )
    front_door = process(
        control_plane,
        "modelengine_gateway",
        "modelengine-front-door",
        home,
        **where,
        MODELENGINE_REGISTRY="configmaps",
        MODELENGINE_LISTEN_PORT="19527",
    )
    children = {f"{kind}/demo-engine" for kind in ("deployment.apps", "service", "serviceaccount")}
    with operator, front_door:
        control_plane.apply(engine)
        until(lambda: children <= things(control_plane, team), 60, "what belongs to the ModelEngine")
        until(lambda: answers("http://127.0.0.1:18080/healthz"), 30, "a healthy operator")
        until(lambda: answers("http://127.0.0.1:19527/ready"), 30, "a ready front door")
        assert granted(control_plane, "demo-engine", team, team) == set()
        holder = document(control_plane, "lease", "modelengine-operator", "-n", home)["spec"]["holderIdentity"]
        assert holder
        control_plane.kubectl("scale", f"{kinds.PLURAL}/demo", "-n", team, "--replicas=2")
        until(
            lambda: document(control_plane, "deployment", "demo-engine", "-n", team)["spec"]["replicas"] == 2,
            30,
            "the second replica",
        )
    assert refused(control_plane, "modelengine-operator", home) == []
    assert refused(control_plane, "modelengine-front-door", home) == []

    control_plane.helm("uninstall", "modelengine", "-n", home, "--no-hooks")
    with process(control_plane, "modelengine_operator.uninstall", "modelengine-uninstall", home, **where) as uninstall:
        assert uninstall.wait(30) == 0
    left = {f"modelengine.{kinds.GROUP}/demo"}
    of_the_hook = {f"{kind}/modelengine-uninstall" for kind in ROLES_IN_A_NAMESPACE}
    until(lambda: things(control_plane, team) - of_the_hook == left, 30, "the end of the engines")
    assert refused(control_plane, "modelengine-uninstall", home) == []


ROLES_IN_A_NAMESPACE = ("role.rbac.authorization.k8s.io", "rolebinding.rbac.authorization.k8s.io")
