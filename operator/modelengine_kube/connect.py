"""Where the API server is and who we are there: from the pod's ServiceAccount, else from a kubeconfig."""

from __future__ import annotations

import os

from kubernetes.aio import config
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration

from modelengine_kube.errors import KubeError

IN_CLUSTER_VARIABLE = "KUBERNETES_SERVICE_HOST"
# As many requests may be under way at once; the rest wait for a connection.
CONNECTIONS = 32


async def client() -> ApiClient:
    """A client to close with `async with`. Raises KubeError that says what is missing."""
    configuration = Configuration()
    try:
        if os.environ.get(IN_CLUSTER_VARIABLE):
            config.load_incluster_config(client_configuration=configuration)
        else:
            await config.load_kube_config(client_configuration=configuration)
    except (config.ConfigException, OSError) as failure:
        raise KubeError(f"no way to a cluster: not in a pod, and no usable kubeconfig ({failure})") from failure
    configuration.connection_pool_maxsize = CONNECTIONS
    return ApiClient(configuration=configuration)
