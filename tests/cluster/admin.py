"""An administrator's own client of the API server, for tests that ask hundreds of times: no process for each question.

Used beside `kubectl` by the tests of the operator. It never goes through the code that it helps to test.
"""

from __future__ import annotations

import http.client
import json
import ssl
import time
import urllib.parse
from collections.abc import Iterator
from typing import Any

from cluster.harness import network
from cluster.harness.control_plane import ControlPlane
from modelengine_kube.resources import Resource

Object = dict[str, Any]
TIMEOUT_S = 30.0
JSON = "application/json"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
NAMESPACES = Resource("v1", "Namespace", "namespaces")
QUOTAS = Resource("v1", "ResourceQuota", "resourcequotas")


class Refused(Exception):
    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class Admin:
    """May do everything. Many threads may use it; `close` it at the end."""

    def __init__(self, plane: ControlPlane) -> None:
        self._trust = ssl.create_default_context(cafile=plane.authority.file("ca.crt"))
        self._trust.load_cert_chain(plane.authority.file("admin.crt"), plane.authority.file("admin.key"))
        self._idle: list[http.client.HTTPSConnection] = []
        self._closed = False

    def close(self) -> None:
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    def get(self, resource: Resource, namespace: str | None, name: str) -> Object:
        return self.call("GET", resource.path(namespace, name))

    def find(self, resource: Resource, namespace: str | None, name: str) -> Object | None:
        try:
            return self.get(resource, namespace, name)
        except Refused as refused:
            if refused.code == 404:
                return None
            raise

    def list(self, resource: Resource, namespace: str | None, labels: str = "") -> list[Object]:
        items: list[Object] = self.call("GET", resource.path(namespace), labelSelector=labels)["items"]
        return items

    def create(self, resource: Resource, obj: Object) -> Object:
        body = {"apiVersion": resource.api_version, "kind": resource.kind, **obj}
        return self.call("POST", resource.path(obj["metadata"].get("namespace")), body)

    def merge(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        patch: Object,
        subresource: str | None = None,
        kind: str = MERGE,
    ) -> Object:
        return self.call("PATCH", resource.path(namespace, name, subresource), patch, kind)

    def delete(self, resource: Resource, namespace: str | None, name: str, **options: Any) -> None:
        self.call("DELETE", resource.path(namespace, name), {"propagationPolicy": "Background", **options})

    def watch(self, resource: Resource, namespace: str | None, version: str, **query: str) -> Iterator[Object]:
        """Events until the server ends it or the connection breaks."""
        connection = self._connect(timeout_s=None)
        try:
            asked = {"watch": "true", "resourceVersion": version, "allowWatchBookmarks": "true", **query}
            connection.request("GET", f"{resource.path(namespace)}?{urllib.parse.urlencode(asked)}")
            answer = connection.getresponse()
            while line := answer.readline():
                yield json.loads(line)
        finally:
            connection.close()

    def call(self, method: str, path: str, body: Object | None = None, kind: str = JSON, **query: str) -> Object:
        asked = urllib.parse.urlencode({key: value for key, value in query.items() if value})
        content = None if body is None else json.dumps(body)
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            connection = self._idle.pop() if self._idle else self._connect(TIMEOUT_S)
            try:
                connection.request(method, f"{path}?{asked}", content, {"Content-Type": kind})
                answer = connection.getresponse()
                told = json.loads(answer.read())
            except (OSError, http.client.HTTPException):
                # The API server of a test goes and comes.
                connection.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
            else:
                if self._closed:
                    connection.close()
                else:
                    self._idle.append(connection)
                break
        if answer.status >= 400:
            raise Refused(answer.status, told.get("message", ""))
        assert isinstance(told, dict)
        return told

    def _connect(self, timeout_s: float | None) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(network.NODE_IP, 6443, timeout=timeout_s, context=self._trust)
