"""Asks a cluster for `doctor`. What the answers mean is said in `cluster_checks.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from modelengine import errors
from modelengine.cli import cluster_checks, engines, front_door
from modelengine.cli.checks import Check
from modelengine.cli.kubectl import Forbidden, Kubectl
from modelengine.cli.reach import Cluster
from modelengine.kinds import GROUP


def checkup(cluster: Cluster) -> Iterator[Check]:
    """Every check, each as soon as it is known; where the cluster does not answer, the rest is left out."""
    kubectl = Kubectl(cluster)
    try:
        yield cluster_checks.kubectl(kubectl.json("version", "--client", "--output=json"))
    except errors.ModelEngineError as failure:
        yield cluster_checks.failed("kubectl", failure.message)
        return
    try:
        server = kubectl.json("config", "view", "--minify", "--output=json")["clusters"][0]["cluster"]["server"]
        yield cluster_checks.cluster(kubectl.json("version", "--output=json"), server)
    except errors.ModelEngineError as failure:
        yield cluster_checks.failed("cluster", failure.message)
        return
    yield _looked("definition", lambda: _definition(kubectl))
    for name, selector in (("operator", front_door.OPERATOR_SELECTOR), ("front door", front_door.SELECTOR)):
        yield _looked(name, partial(_deployment, kubectl, name, selector))
    for verb, resource, what in cluster_checks.RIGHTS:
        yield cluster_checks.right(what, verb, resource, _may(kubectl, verb, resource))
    yield _looked("GPUs", lambda: cluster_checks.accelerators(kubectl.items("nodes")))
    yield _looked("engines", lambda: _engines(kubectl))


def _looked(name: str, look: Callable[[], Check]) -> Check:
    try:
        return look()
    except Forbidden:
        return cluster_checks.not_allowed(name)
    except errors.ModelEngineError as failure:
        return cluster_checks.failed(name, failure.message)


def _definition(kubectl: Kubectl) -> Check:
    # Whoever may log in may read this; the definition itself may be read by few.
    try:
        return cluster_checks.installed(kubectl.json("get", f"--raw=/apis/{GROUP}"))
    except errors.NotFound:
        return cluster_checks.installed(None)


def _deployment(kubectl: Kubectl, name: str, selector: str) -> Check:
    namespace = kubectl.cluster.front_door_namespace
    where = "--all-namespaces" if namespace is None else f"--namespace={namespace}"
    return cluster_checks.deployment(name, kubectl.items("deployments", where, f"--selector={selector}"))


def _may(kubectl: Kubectl, verb: str, resource: str) -> bool:
    # It says no with its exit code, and by words that depend on its version.
    return kubectl.done("auth", "can-i", verb, resource, *kubectl.in_namespace()).stdout.strip().startswith("yes")


def _engines(kubectl: Kubectl) -> Check:
    found = kubectl.engines()
    ready = [engines.condition(engine, "Ready") for engine in found]
    reasons = [str(one.get("reason") or "no status yet") for one in ready if one.get("status") != "True"]
    return cluster_checks.engines(len(found) - len(reasons), reasons)
