"""The operator's writes, each behind a look at the Lease, and the reads that go with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelengine import kinds
from modelengine_kube import errors, resources
from modelengine_kube.api import KubeApi, Object
from modelengine_kube.resources import Resource
from modelengine_operator.leadership import Leadership


class Cluster:
    """Every method raises NotLeading, before anything is written, and a KubeError."""

    def __init__(self, api: KubeApi, leadership: Leadership) -> None:
        self._api = api
        self._leadership = leadership

    async def find(self, resource: Resource, namespace: str, name: str) -> Object | None:
        """Whatever is there under this name, also what no watch of ours sees for want of our labels."""
        try:
            return await self._api.get(resource, namespace, name)
        except errors.NotFound:
            return None

    async def apply(self, resource: Resource, manifest: Object, *, subresource: str | None = None) -> Object:
        self._leadership.check()
        return await self._api.apply(resource, manifest, subresource=subresource)

    async def write_registry(self, namespace: str, known: Object | None, data: Mapping[str, str]) -> Object:
        """Replaces the whole of it, so that what others put there goes. Conflict when somebody wrote meanwhile."""
        self._leadership.check()
        registry: Object = {
            "apiVersion": resources.CONFIG_MAPS.api_version,
            "kind": resources.CONFIG_MAPS.kind,
            "metadata": {
                "namespace": namespace,
                "name": kinds.REGISTRY_NAME,
                "labels": {kinds.LABEL_APP: kinds.REGISTRY_NAME, kinds.LABEL_MANAGED_BY: kinds.MANAGER},
            },
            "data": dict(data),
        }
        if known is None:
            return await self._api.create(resources.CONFIG_MAPS, registry)
        registry["metadata"]["resourceVersion"] = known["metadata"]["resourceVersion"]
        return await self._api.replace(resources.CONFIG_MAPS, registry)

    async def tell(self, event: Mapping[str, Any]) -> None:
        self._leadership.check()
        await self._api.create(resources.EVENTS, dict(event))
