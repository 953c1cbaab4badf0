"""Every right that the chart gives: compared with what is rendered, and with what a real API server grants."""

from __future__ import annotations

from typing import Any

from modelengine import kinds
from modelengine_operator import leadership

Right = tuple[str, str, str, str]  # group, resource, name or "*" for any, verb

ME = kinds.GROUP
REGISTRY = kinds.REGISTRY_NAME


def rights(group: str, resources: str, verbs: str, name: str = "*") -> set[Right]:
    return {(group, resource, name, verb) for resource in resources.split() for verb in verbs.split()}


OPERATOR = (
    rights(ME, "modelengines", "get list watch")
    | rights(ME, "modelengines/status", "patch")
    | rights("apps", "deployments", "get list watch create patch")
    | rights("", "services serviceaccounts persistentvolumeclaims", "get list watch create patch")
    | rights("policy", "poddisruptionbudgets", "get list watch create patch")
    | rights("", "pods", "list watch")
    | rights("", "configmaps", "create")
    | rights("", "configmaps", "get list watch update", REGISTRY)
    | rights("", "events", "create")
)
LEASE = rights("coordination.k8s.io", "leases", "create") | rights(
    "coordination.k8s.io", "leases", "get update", leadership.LEASE_NAME
)
FRONT_DOOR = rights("", "configmaps", "get list watch", REGISTRY)
UNINSTALL = (
    rights("apps", "deployments", "list delete")
    | rights("", "services serviceaccounts", "list delete")
    | rights("policy", "poddisruptionbudgets", "list delete")
    | rights("", "configmaps", "list delete", REGISTRY)
)
VIEW = rights(ME, "modelengines modelengines/status modelengines/scale", "get list watch")
EDIT = rights(ME, "modelengines", "create update patch delete deletecollection") | rights(
    ME, "modelengines/scale", "update patch"
)

# Kind, namespace ("" for cluster-wide), name -> rights
EVERYWHERE = {
    ("ClusterRole", "", "modelengine-operator"): OPERATOR,
    ("Role", "home", "modelengine-operator-lease"): LEASE,
    ("ClusterRole", "", "modelengine-front-door"): FRONT_DOOR,
    ("ClusterRole", "", "modelengine-uninstall"): UNINSTALL,
    ("ClusterRole", "", "modelengine-view"): VIEW,
    ("ClusterRole", "", "modelengine-edit"): EDIT,
}
IN_TWO_NAMESPACES = {
    ("Role", "home", "modelengine-operator-lease"): LEASE,
    ("ClusterRole", "", "modelengine-view"): VIEW,
    ("ClusterRole", "", "modelengine-edit"): EDIT,
} | {
    ("Role", namespace, name): given
    for namespace in ("team-a", "team-b")
    for name, given in (
        ("modelengine-operator", OPERATOR),
        ("modelengine-front-door", FRONT_DOOR),
        ("modelengine-uninstall", UNINSTALL),
    )
}


def of_rule(rule: dict[str, Any]) -> set[Right]:
    """What a rule gives, of a role or of the API server's answer to who may do what."""
    return {
        (group, resource, name, verb)
        for group in rule.get("apiGroups", [""])
        for resource in rule["resources"]
        for name in rule.get("resourceNames", ["*"])
        for verb in rule["verbs"]
    }
