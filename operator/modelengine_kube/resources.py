"""The kinds of objects that we read or write, and their paths in the API."""

from __future__ import annotations

from dataclasses import dataclass

from modelengine import kinds


@dataclass(frozen=True, slots=True)
class Resource:
    """One namespaced kind; `api_version` as manifests write it: `v1`, `apps/v1`."""

    api_version: str
    kind: str
    plural: str

    def path(self, namespace: str | None, name: str | None = None, subresource: str | None = None) -> str:
        """The URL path; `namespace` None is all namespaces, for lists and watches only."""
        root = f"/api/{self.api_version}" if "/" not in self.api_version else f"/apis/{self.api_version}"
        within = f"/namespaces/{namespace}" if namespace is not None else ""
        return "/".join(part for part in (f"{root}{within}", self.plural, name, subresource) if part)


MODELENGINES = Resource(kinds.API_VERSION, kinds.KIND, kinds.PLURAL)
DEPLOYMENTS = Resource("apps/v1", "Deployment", "deployments")
SERVICES = Resource("v1", "Service", "services")
SERVICE_ACCOUNTS = Resource("v1", "ServiceAccount", "serviceaccounts")
CLAIMS = Resource("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
BUDGETS = Resource("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
PODS = Resource("v1", "Pod", "pods")
CONFIG_MAPS = Resource("v1", "ConfigMap", "configmaps")
EVENTS = Resource("v1", "Event", "events")
LEASES = Resource("coordination.k8s.io/v1", "Lease", "leases")
