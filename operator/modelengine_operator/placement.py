"""Why the scheduler finds no node for a pod, in our words: what is missing, and what to do about it.

Pure. The scheduler tells of all nodes in one long sentence; podstate.py asks here for the part that matters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

LACKING = re.compile(r"Insufficient ([\w\-/]+(?:\.[\w\-/]+)*)")
# What few nodes have is the likelier cause than these.
COMMON = ("cpu", "memory", "ephemeral-storage")
# What it might do with other pods is of no use to who waits.
PREEMPTION = re.compile(r"[\s.]*(no new claims to deallocate, )?preemption: .*$", re.DOTALL)
# What it ends with where there is nothing to preempt.
NOTHING_MORE = ". not found"
# The scheduler's words, what is missing, what to do. The first that is found counts.
CAUSES = (
    (re.compile(r'persistentvolumeclaim "([^"]+)" not found'), "claim {}", "make that PersistentVolumeClaim here"),
    (
        re.compile(r"unbound immediate PersistentVolumeClaims|available persistent volumes to bind"),
        "volume",
        "its PersistentVolumeClaim gets no volume: see kubectl describe pvc",
    ),
    (
        re.compile(r"PersistentVolume's node affinity|volume node affinity conflict|no available volume zone"),
        "volume",
        "its volume can't be used from the nodes that would do",
    ),
    (re.compile(r"node affinity/selector"), "", "no node is as spec.nodeSelector and spec.affinity want it"),
    (re.compile(r"untolerated taint"), "taint", "the nodes that would do have a taint: add it to spec.tolerations"),
    (re.compile(r"pod (anti-)?affinity rules|pods anti-affinity rules"), "affinity", "see to spec.affinity"),
    (re.compile(r"were unschedulable"), "cordoned", "its nodes take no new pods: see kubectl get nodes"),
    (re.compile(r"Too many pods"), "pods", "its nodes are full: add a node"),
    (re.compile(r"no nodes available"), "no nodes", "the cluster has no node"),
    (re.compile(r"scheduling gates"), "gated", "another controller holds it back"),
)


def explained(message: str, selector: Mapping[str, str]) -> tuple[str, str]:
    """A sentence, and what is missing, as for `Unschedulable: nvidia.com/gpu`. `selector` is the pod's nodeSelector."""
    told = PREEMPTION.sub("", message).strip().rstrip(".").removesuffix(NOTHING_MORE)
    lacking = sorted(dict.fromkeys(LACKING.findall(told)), key=lambda name: name in COMMON)
    if lacking:
        about = ", ".join(lacking)
        return f"no node has enough {about} free: add a node, or ask for less in spec.resources ({told})", about
    for words, about, advice in CAUSES:
        if found := words.search(told):
            about = about.format(*found.groups()) or _shown(selector)
            return f"{advice} ({told})", about
    return told, ""


def _shown(selector: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in selector.items()) or "affinity"
