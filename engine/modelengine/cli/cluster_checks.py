"""What `doctor` thinks of a cluster: kubectl's answers in, one line out, with the fix where something is wrong."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from modelengine.cli.checks import Check, State
from modelengine.cli.exits import INSTALL
from modelengine.kinds import GROUP, PLURAL, VERSION

# Resources that stand for a whole accelerator: nvidia.com/gpu, amd.com/gpu, gpu.intel.com/i915, aws.amazon.com/neuron.
ACCELERATOR = re.compile(r"(^|[./-])gpus?([./-]|$)|tpu|neuron|/mig-")
# Verb, resource, and what they are needed for.
RIGHTS = (
    ("list", f"{PLURAL}.{GROUP}", "see models"),
    ("create", f"{PLURAL}.{GROUP}", "name models"),
    ("create", "pods/portforward", "chat from here"),
)


def kubectl(version: Mapping[str, Any]) -> Check:
    return Check("kubectl", State.OK, str(version["clientVersion"]["gitVersion"]))


def failed(name: str, failure: str) -> Check:
    """What could not be looked at: the message says what to do, behind its semicolon."""
    found, _, fix = failure.partition("; ")
    return Check(name, State.FAIL, found, fix)


def not_allowed(name: str) -> Check:
    return Check(name, State.WARN, "you may not look", "ask somebody who may, or for the role `view`")


def cluster(version: Mapping[str, Any], server: str) -> Check:
    return Check("cluster", State.OK, f"{version['serverVersion']['gitVersion']} at {server}")


def installed(group: Mapping[str, Any] | None) -> Check:
    """`group` is what the API server says of our API group, None where it does not know it."""
    if group is None:
        return Check("definition", State.FAIL, f"{GROUP} is unknown", INSTALL)
    served = [version["version"] for version in group["versions"]]
    found = f"{GROUP} serves {', '.join(served)}"
    if VERSION not in served:
        return Check("definition", State.FAIL, found, f"install the chart that goes with this command: {VERSION}")
    return Check("definition", State.OK, found)


def deployment(name: str, deployments: Sequence[Mapping[str, Any]]) -> Check:
    """The operator or the front door: at least one pod of it has to be available."""
    if not deployments:
        return Check(name, State.FAIL, "not installed", INSTALL)
    metadata = deployments[0]["metadata"]
    where = f"-n {metadata['namespace']} deployment/{metadata['name']}"
    wanted = sum(found["spec"].get("replicas", 1) for found in deployments)
    available = sum((found.get("status") or {}).get("availableReplicas", 0) for found in deployments)
    places = ", ".join(f"{found['metadata']['namespace']}/{found['metadata']['name']}" for found in deployments)
    found = f"{available} of {wanted} available: {places}"
    if not available:
        return Check(name, State.FAIL, found, f"kubectl describe {where}; kubectl logs {where}")
    if available < wanted:
        return Check(name, State.WARN, found, f"kubectl describe {where}")
    return Check(name, State.OK, found)


def right(what: str, verb: str, resource: str, is_allowed: bool) -> Check:
    if is_allowed:
        return Check(f"right to {what}", State.OK, "yes")
    return Check(f"right to {what}", State.WARN, f"no: may not {verb} {resource}", "ask for the role `edit`, or `view`")


def accelerators(nodes: Sequence[Mapping[str, Any]]) -> Check:
    """What the nodes offer in all; a cluster without any still runs engines on its CPUs."""
    offered: dict[str, list[int]] = {}
    for node in nodes:
        for resource, quantity in ((node.get("status") or {}).get("allocatable") or {}).items():
            if ACCELERATOR.search(resource) and quantity.isdigit() and int(quantity):
                offered.setdefault(resource, []).append(int(quantity))
    if not offered:
        fix = "to use GPUs, install the device plugin of their maker; engines run on CPUs without it"
        return Check("GPUs", State.WARN, f"none on {_nodes(len(nodes))}", fix)
    found = (f"{sum(counts)} {resource} on {_nodes(len(counts))}" for resource, counts in sorted(offered.items()))
    return Check("GPUs", State.OK, ", ".join(found))


def engines(ready: int, reasons: Sequence[str]) -> Check:
    """How the ModelEngines are; one that is not ready says why itself."""
    found = f"{ready} of {ready + len(reasons)} ready" + (f" ({', '.join(sorted(set(reasons)))})" if reasons else "")
    return Check("engines", State.WARN if reasons else State.OK, found, "see: ls -o wide" if reasons else "")


def _nodes(count: int) -> str:
    return f"{count} node{'s' * (count != 1)}"
