"""The words that the parts on a cluster share: the custom resource's kind, the names and labels of what belongs to it.

The operator writes them, the front door and the command line look for them. The chart and the CRD repeat some; tests
compare them with these.
"""

from __future__ import annotations

from collections.abc import Mapping

GROUP = "modelengine.dev"
VERSION = "v1alpha1"
KIND = "ModelEngine"
PLURAL = "modelengines"
SHORT_NAME = "me"
API_VERSION = f"{GROUP}/{VERSION}"

REGISTRY_NAME = "modelengine-registry"
# In a namespace, by who uses it: the hub's token for downloads, read by the fetch container alone.
HUB_TOKEN_SECRET = "modelengine-hub-token"
HUB_TOKEN_KEY = "token"

ENGINE_CONTAINER = "engine"
FETCH_CONTAINER = "fetch"
ENGINE_PORT = 8000

APP = "modelengine-engine"
MANAGER = "modelengine-operator"

LABEL_APP = "app.kubernetes.io/name"
LABEL_INSTANCE = "app.kubernetes.io/instance"
LABEL_COMPONENT = "app.kubernetes.io/component"
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
LABEL_ENGINE = f"{GROUP}/engine"

ANNOTATION_SERVED_NAME = f"{GROUP}/served-name"
ANNOTATION_PROTOCOL = f"{GROUP}/protocol"


def child_name(engine: str) -> str:
    """The name of the Deployment, Service, PodDisruptionBudget and ServiceAccount of a ModelEngine."""
    return f"{engine}-engine"


def cache_name(engine: str) -> str:
    """The name of the PersistentVolumeClaim that keeps a ModelEngine's downloads."""
    return f"{engine}-cache"


def selector(engine: str) -> Mapping[str, str]:
    """The labels that select the pods of a ModelEngine."""
    return {LABEL_APP: APP, LABEL_ENGINE: engine}


def labels(engine: str) -> Mapping[str, str]:
    """The labels of everything that belongs to a ModelEngine."""
    return {
        **selector(engine),
        LABEL_INSTANCE: engine,
        LABEL_COMPONENT: "engine",
        LABEL_MANAGED_BY: MANAGER,
    }


def as_selector(wanted: Mapping[str, str]) -> str:
    """Labels as the API's query parameter and `kubectl -l` write them."""
    return ",".join(f"{key}={value}" for key, value in wanted.items())


# What selects all that the operator made, and the registries among the ConfigMaps: a right to one name covers only
# those lists and watches that ask for it.
OURS = as_selector({LABEL_MANAGED_BY: MANAGER})
ONLY_REGISTRIES = f"metadata.name={REGISTRY_NAME}"
