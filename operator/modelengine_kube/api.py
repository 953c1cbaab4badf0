"""The calls to the API server, on plain dicts. The only place where its HTTP is spoken.

The official client's typed classes cost a second and 140 MB to import and lose fields that they do not know; its
ApiClient brings the connection, TLS and the renewing of tokens, and is all that is used here.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from kubernetes.aio.client.api_client import ApiClient

from modelengine_kube import errors
from modelengine_kube.resources import Resource

Object = dict[str, Any]

CALL_TIMEOUT_S = 20.0
PAGE = 500
JSON = "application/json"
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
WATCH_S = 240
# The server sends a bookmark every minute if anything happens at all: a watch that is silent for longer may be dead.
WATCH_SILENCE_S = 70


@dataclass(frozen=True, slots=True)
class Listing:
    """What was there at `resource_version`, from where a watch may go on."""

    items: list[Object]
    resource_version: str


@dataclass(frozen=True, slots=True)
class Event:
    """One change: `type` is ADDED, MODIFIED, DELETED or BOOKMARK."""

    type: str
    object: Object


class KubeApi:
    """Reads and writes objects. Every method raises a KubeError."""

    def __init__(self, client: ApiClient, field_manager: str = "") -> None:
        self._client = client
        self._field_manager = field_manager

    async def get(self, resource: Resource, namespace: str, name: str) -> Object:
        return await self._call("GET", resource.path(namespace, name))

    async def list(self, resource: Resource, namespace: str | None, *, labels: str = "", fields: str = "") -> Listing:
        """All of them, by pages. The server's newest state: no resource version is given, so none is stale."""
        items: list[Object] = []
        query = {"labelSelector": labels, "fieldSelector": fields, "limit": str(PAGE), "continue": ""}
        while True:
            page = await self._call("GET", resource.path(namespace), query=query)
            # Never to be taken for an empty list.
            if not isinstance(page.get("items"), list) or "resourceVersion" not in page.get("metadata", {}):
                raise errors.Unreachable(f"the answer to a list of {resource.plural} is none")
            # The items of a list do not say what they are.
            items += [{"apiVersion": resource.api_version, "kind": resource.kind, **item} for item in page["items"]]
            query["continue"] = page["metadata"].get("continue", "")
            if not query["continue"]:
                return Listing(items, page["metadata"]["resourceVersion"])

    async def create(self, resource: Resource, obj: Object) -> Object:
        query = {"fieldManager": self._field_manager}
        return await self._call("POST", resource.path(obj["metadata"]["namespace"]), query=query, body=obj)

    async def replace(self, resource: Resource, obj: Object) -> Object:
        """Writes the whole object. With a resourceVersion in it: Conflict when somebody else wrote meanwhile."""
        meta = obj["metadata"]
        path = resource.path(meta["namespace"], meta["name"])
        return await self._call("PUT", path, query={"fieldManager": self._field_manager}, body=obj)

    async def apply(self, resource: Resource, obj: Object, *, subresource: str | None = None) -> Object:
        """Server-side apply: the fields given become ours and as given, those of ours not given any more go."""
        meta = obj["metadata"]
        path = resource.path(meta["namespace"], meta["name"], subresource)
        query = {"fieldManager": self._field_manager, "force": "true"}
        return await self._call("PATCH", path, query=query, body=obj, content_type=APPLY)

    async def merge(self, resource: Resource, namespace: str, name: str, patch: Object) -> Object:
        query = {"fieldManager": self._field_manager}
        return await self._call("PATCH", resource.path(namespace, name), query=query, body=patch, content_type=MERGE)

    async def delete(self, resource: Resource, namespace: str, name: str) -> None:
        """Deletes it, and by the garbage collector what it owns."""
        await self._call("DELETE", resource.path(namespace, name), body={"propagationPolicy": "Background"})

    async def watch(
        self,
        resource: Resource,
        namespace: str | None,
        resource_version: str,
        *,
        labels: str = "",
        fields: str = "",
        seconds: float = WATCH_S,
    ) -> AsyncIterator[Event]:
        """The changes since `resource_version`; ends after about `seconds`. Raises Gone when that is too long ago."""
        query = {
            "watch": "true",
            "resourceVersion": resource_version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": f"{seconds:.0f}",
            "labelSelector": labels,
            "fieldSelector": fields,
        }
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CALL_TIMEOUT_S, sock_read=WATCH_SILENCE_S)
        try:
            async with await self._request("GET", resource.path(namespace), query, None, JSON, timeout) as response:
                if response.status != 200:
                    raise errors.of_answer(response.status, await response.read(), response.headers)
                async for line in response.content:
                    yield _event(line)
        except aiohttp.SocketTimeoutError:
            # Dead, or of a kind of which nothing happens: the same to whoever lists again.
            return
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError, TypeError, KeyError) as failure:
            raise errors.Unreachable(f"the watch of {resource.plural} broke: {failure!r}") from failure

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        content_type: str = JSON,
    ) -> Object:
        timeout = aiohttp.ClientTimeout(total=CALL_TIMEOUT_S)
        try:
            async with await self._request(method, path, query or {}, body, content_type, timeout) as response:
                data = await response.read()
                headers = response.headers
        except (aiohttp.ClientError, OSError, TimeoutError) as failure:
            raise errors.Unreachable(f"no answer from the API server: {failure!r}") from failure
        if not 200 <= response.status < 300:
            raise errors.of_answer(response.status, data, headers)
        try:
            answer = json.loads(data)
        except ValueError as failure:
            raise errors.Unreachable(f"whoever answers is no API server: {data[:100]!r}") from failure
        if not isinstance(answer, dict):
            raise errors.Unreachable(f"whoever answers is no API server: {data[:100]!r}")
        return answer

    async def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Object | None,
        content_type: str,
        timeout: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        prepared = await self._client.param_serialize(
            method,
            path,
            query_params=[(key, value) for key, value in query.items() if value],
            header_params={"Content-Type": content_type, "Accept": JSON},
            body=body,
            auth_settings=["BearerToken"],
        )
        answer = await self._client.call_api(*prepared, _request_timeout=timeout)
        response: aiohttp.ClientResponse = answer.response
        return response


def _event(line: bytes) -> Event:
    """Raises the error that an ERROR event tells."""
    told = json.loads(line)
    if told["type"] == "ERROR":
        status = told["object"]
        raise errors.of_status(int(status.get("code", 500)), str(status.get("message", "the watch failed")))
    return Event(told["type"], told["object"])
