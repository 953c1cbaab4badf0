"""Where the API server is and who we are there: from the pod's ServiceAccount, else from a kubeconfig."""

from __future__ import annotations

import os

from kubernetes.aio import config
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration

from modelengine_kube.errors import KubeError

IN_CLUSTER_VARIABLE = "KUBERNETES_SERVICE_HOST"
KUBECONFIG_VARIABLE = "KUBECONFIG"
# No bound: each watch keeps a connection for itself, one for each kind in each namespace, and a request that finds none
# free would wait for a watch to end. How many requests are under way at once is up to who asks.
CONNECTIONS = 0


async def client() -> ApiClient:
    """A client to close with `async with`. Raises KubeError that says what is missing."""
    configuration = Configuration()
    try:
        if os.environ.get(IN_CLUSTER_VARIABLE):
            config.load_incluster_config(client_configuration=configuration)
        else:
            # Read now: the library reads the variable when it is imported.
            path = os.environ.get(KUBECONFIG_VARIABLE) or None
            await config.load_kube_config(config_file=path, client_configuration=configuration)
    except Exception as failure:
        # A file that is no kubeconfig breaks the library in as many ways as there are files.
        reason = " ".join(str(failure).split())
        raise KubeError(f"no way to a cluster: not in a pod, and no usable kubeconfig ({reason})") from failure
    configuration.connection_pool_maxsize = CONNECTIONS
    return ApiClient(configuration=configuration)
