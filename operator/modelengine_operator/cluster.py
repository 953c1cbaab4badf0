"""The operator's writes, each behind a look at the Lease, and the reads that go with them."""

from __future__ import annotations

from collections import Counter
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
        # How many objects were written, by what they are.
        self.writes: Counter[str] = Counter()

    async def find(self, resource: Resource, namespace: str, name: str) -> Object | None:
        """Whatever is there under this name, also what no watch of ours sees for want of our labels."""
        try:
            return await self._api.get(resource, namespace, name)
        except errors.NotFound:
            return None

    async def apply(self, resource: Resource, manifest: Object, *, subresource: str | None = None) -> Object:
        self._leadership.check()
        written = await self._api.apply(resource, manifest, subresource=subresource)
        self.writes[f"{resource.plural}/{subresource}" if subresource else resource.plural] += 1
        return written

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
            written = await self._api.create(resources.CONFIG_MAPS, registry)
        else:
            registry["metadata"]["resourceVersion"] = known["metadata"]["resourceVersion"]
            written = await self._api.replace(resources.CONFIG_MAPS, registry)
        self.writes[resources.CONFIG_MAPS.plural] += 1
        return written

    async def tell(self, event: Mapping[str, Any]) -> None:
        self._leadership.check()
        await self._api.create(resources.EVENTS, dict(event))
        self.writes[resources.EVENTS.plural] += 1
