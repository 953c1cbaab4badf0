"""What `helm uninstall` does at its end: stops the engines and removes the registries, as Ctrl-C does on one machine.

Runs as a Job after the operator is gone, with rights of its own. The ModelEngines stay: they are what the user wrote,
and an operator that is installed again brings them back. Downloads stay too, in their claims.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Sequence

from modelengine import env, kinds
from modelengine_kube import connect, errors, resources
from modelengine_kube.api import KubeApi
from modelengine_kube.resources import Resource

log = logging.getLogger(__name__)

STOPPED = (resources.DEPLOYMENTS, resources.SERVICES, resources.BUDGETS, resources.SERVICE_ACCOUNTS)


def main() -> int:
    logging.basicConfig(level="INFO", stream=sys.stdout, format="%(message)s")
    try:
        asyncio.run(run(env.words(os.environ, "MODELENGINE_NAMESPACES")))
    except errors.KubeError as failure:
        print(f"error: {failure.message}", file=sys.stderr)
        return 1
    return 0


async def run(namespaces: Sequence[str]) -> None:
    """In these namespaces, or in all where none is given."""
    async with await connect.client() as client:
        api = KubeApi(client, kinds.MANAGER)
        scopes: Sequence[str | None] = namespaces or (None,)
        found = [
            (resource, obj["metadata"]["namespace"], obj["metadata"]["name"])
            for scope in scopes
            for resource in STOPPED
            for obj in (await api.list(resource, scope, labels=kinds.OURS)).items
        ]
        registries = [
            obj["metadata"]["namespace"]
            for scope in scopes
            for obj in (await api.list(resources.CONFIG_MAPS, scope, fields=kinds.ONLY_REGISTRIES)).items
        ]
        # First the names, so that nobody is sent to an engine that is about to stop.
        for namespace in registries:
            await delete(api, resources.CONFIG_MAPS, namespace, kinds.REGISTRY_NAME)
        for resource, namespace, name in found:
            await delete(api, resource, namespace, name)
    log.info("ModelEngineOperator uninstalled: engines stopped, registries removed; ModelEngines and claims stay")


async def delete(api: KubeApi, resource: Resource, namespace: str, name: str) -> None:
    try:
        await api.delete(resource, namespace, name)
    except errors.NotFound:
        return
    log.info("deleted %s %s/%s", resource.kind, namespace, name)


if __name__ == "__main__":
    sys.exit(main())
