"""The calls to the API server, over real HTTP on loopback: what is sent, and what each answer becomes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from modelengine_kube import api as calls
from modelengine_kube import connect, errors, resources
from modelengine_kube.api import KubeApi
from modelengine_kube.errors import KubeError

Object = dict[str, Any]
POD: Object = {"metadata": {"namespace": "team", "name": "p", "resourceVersion": "7"}}


class Server:
    """Notes what is asked, and answers what it was told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.sent: list[tuple[str, Any]] = []
        self.answers: list[tuple[int, Any]] = []
        self.headers: dict[str, str] = {}
        self.lines: list[bytes] = []
        self.watches = 0
        self.stays_open = False
        self.is_silent = False

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.method, request.path, dict(request.query)))
        body = await request.read()
        self.sent.append((request.content_type, json.loads(body) if body else None))
        if self.is_silent:
            await asyncio.Event().wait()
        if "watch" in request.query and not self.answers:
            return await self.watch(request)
        status, answer = self.answers.pop(0) if self.answers else (200, POD)
        raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        return web.Response(status=status, body=raw, headers=self.headers, content_type="application/json")

    async def watch(self, request: web.Request) -> web.StreamResponse:
        self.watches += 1
        response = web.StreamResponse()
        await response.prepare(request)
        for line in self.lines:
            await response.write(line)
        if self.stays_open:
            await asyncio.Event().wait()
        return response


@pytest.fixture
async def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    server, app = Server(), web.Application(client_max_size=10**8)
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{runner.addresses[0][1]}"}}],
        "users": [{"name": "u", "user": {"token": "secret"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    yield server
    await runner.cleanup()


@pytest.fixture
async def api(server: Server) -> AsyncIterator[KubeApi]:
    async with await connect.client() as client:
        yield KubeApi(client, "me")


async def test_get_replace_create_merge_delete_and_apply_are_sent_as_the_api_wants_them(
    server: Server, api: KubeApi
) -> None:
    assert await api.get(resources.PODS, "team", "p") == POD
    await api.create(resources.PODS, POD)
    await api.replace(resources.DEPLOYMENTS, POD)
    await api.apply(resources.MODELENGINES, POD, subresource="status")
    await api.merge(resources.PODS, "team", "p", {"a": 1})
    await api.delete(resources.PODS, "team", "p")
    engines = "/apis/modelengine.dev/v1alpha1/namespaces/team/modelengines"
    assert server.asked == [
        ("GET", "/api/v1/namespaces/team/pods/p", {}),
        ("POST", "/api/v1/namespaces/team/pods", {"fieldManager": "me"}),
        ("PUT", "/apis/apps/v1/namespaces/team/deployments/p", {"fieldManager": "me"}),
        ("PATCH", f"{engines}/p/status", {"fieldManager": "me", "force": "true"}),
        ("PATCH", "/api/v1/namespaces/team/pods/p", {"fieldManager": "me"}),
        ("DELETE", "/api/v1/namespaces/team/pods/p", {}),
    ]
    assert server.sent[1:] == [
        ("application/json", POD),
        ("application/json", POD),
        ("application/apply-patch+yaml", POD),
        ("application/merge-patch+json", {"a": 1}),
        ("application/json", {"propagationPolicy": "Background"}),
    ]


async def test_a_list_is_read_to_its_last_page(server: Server, api: KubeApi) -> None:
    server.answers = [
        (200, {"metadata": {"resourceVersion": "5", "continue": "next"}, "items": [{"metadata": {"name": "a"}}]}),
        (200, {"metadata": {"resourceVersion": "5"}, "items": [{"metadata": {"name": "b"}}]}),
    ]
    found = await api.list(resources.PODS, None, labels="a=b", fields="metadata.name=x")
    assert found.resource_version == "5"
    assert found.items == [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}} for name in "ab"]
    selected = {"labelSelector": "a=b", "fieldSelector": "metadata.name=x", "limit": "500"}
    assert server.asked == [
        ("GET", "/api/v1/pods", selected),
        ("GET", "/api/v1/pods", selected | {"continue": "next"}),
    ]


@pytest.mark.parametrize("answer", [{}, {"items": None, "metadata": {"resourceVersion": "5"}}, {"items": []}, [], b"<"])
async def test_what_is_no_list_is_never_taken_for_an_empty_one(server: Server, api: KubeApi, answer: Any) -> None:
    server.answers = [(200, answer)]
    with pytest.raises(errors.Unreachable):
        await api.list(resources.PODS, "team")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.Invalid),
        (401, errors.Forbidden),
        (403, errors.Forbidden),
        (404, errors.NotFound),
        (409, errors.Conflict),
        (410, errors.Gone),
        (418, KubeError),
        (422, errors.Invalid),
        (429, errors.Throttled),
        (500, errors.Unreachable),
        (503, errors.Unreachable),
    ],
)
async def test_each_refusal_is_an_error_of_its_kind_in_the_server_s_words(
    server: Server, api: KubeApi, status: int, kind: type[KubeError]
) -> None:
    server.answers = [(status, {"kind": "Status", "message": "no, because"})]
    with pytest.raises(KubeError) as refused:
        await api.get(resources.PODS, "team", "p")
    assert type(refused.value) is kind
    assert (refused.value.message, refused.value.status) == ("no, because", status)


async def test_a_namespace_that_is_going_is_an_error_of_its_own(server: Server, api: KubeApi) -> None:
    causes = [{"reason": "NamespaceTerminating", "message": "x", "field": "metadata.namespace"}]
    server.answers = [(403, {"message": "it is being terminated", "details": {"causes": causes}})]
    with pytest.raises(errors.Terminating, match="it is being terminated"):
        await api.create(resources.PODS, POD)
    server.answers = [(403, {"message": "no", "details": None})]
    with pytest.raises(errors.Forbidden) as refused:
        await api.create(resources.PODS, POD)
    assert type(refused.value) is errors.Forbidden


@pytest.mark.parametrize(("after", "seconds"), [("7", 7.0), ("", None), ("soon", None)])
async def test_a_server_that_has_too_much_to_do_says_when_to_come_again(
    server: Server, api: KubeApi, after: str, seconds: float | None
) -> None:
    server.answers, server.headers = [(429, {"message": "later"})], {"Retry-After": after}
    with pytest.raises(errors.Throttled) as refused:
        await api.get(resources.PODS, "team", "p")
    assert refused.value.retry_after_s == seconds


@pytest.mark.parametrize("answer", [b"", b"<html>", b"\xff", "text", [1], None])
async def test_whoever_answers_something_else_is_no_api_server(server: Server, api: KubeApi, answer: Any) -> None:
    for status in (200, 502):
        server.answers = [(status, answer)]
        with pytest.raises(errors.Unreachable):
            await api.get(resources.PODS, "team", "p")


async def test_a_silent_server_is_given_up(server: Server, api: KubeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "CALL_TIMEOUT_S", 0.2)
    server.is_silent = True
    with pytest.raises(errors.Unreachable, match="no answer from the API server"):
        async with asyncio.timeout(5):
            await api.get(resources.PODS, "team", "p")


async def test_a_server_that_is_away_is_unreachable(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    away = (tmp_path / "kubeconfig").read_text().replace("127.0.0.1:", "127.0.0.9:")
    (tmp_path / "kubeconfig").write_text(away)
    async with await connect.client() as client:
        api = KubeApi(client)
        with pytest.raises(errors.Unreachable, match="no answer"):
            await api.get(resources.PODS, "team", "p")
        with pytest.raises(errors.Unreachable, match="the watch of pods broke"):
            await watched(api)


def line(kind: str, **obj: Any) -> bytes:
    return json.dumps({"type": kind, "object": obj}).encode() + b"\n"


async def watched(api: KubeApi) -> list[tuple[str, Object]]:
    found = []
    async with asyncio.timeout(10):
        async for event in api.watch(resources.PODS, "team", "5", labels="a=b", seconds=60):
            found.append((event.type, event.object))
    return found


async def test_a_watch_tells_each_change_until_it_ends(server: Server, api: KubeApi) -> None:
    large = "x" * 1_500_000
    server.lines = [line("ADDED", a=1), line("MODIFIED", a=large)[:70_000], line("MODIFIED", a=large)[70_000:]]
    server.lines += [line("BOOKMARK", a=3) + line("DELETED", a=4)]
    assert await watched(api) == [
        ("ADDED", {"a": 1}),
        ("MODIFIED", {"a": large}),
        ("BOOKMARK", {"a": 3}),
        ("DELETED", {"a": 4}),
    ]
    query = {"watch": "true", "resourceVersion": "5", "allowWatchBookmarks": "true", "timeoutSeconds": "60"}
    assert server.asked == [("GET", "/api/v1/namespaces/team/pods", query | {"labelSelector": "a=b"})]


@pytest.mark.parametrize(
    ("lines", "kind"),
    [
        ([line("ERROR", code=410, message="too old")], errors.Gone),
        ([line("ERROR", message="?")], errors.Unreachable),
        ([line("ADDED", a=1)[:10]], errors.Unreachable),
        ([b"garbage\n"], errors.Unreachable),
        ([b"[]\n"], errors.Unreachable),
        ([b"{}\n"], errors.Unreachable),
    ],
)
async def test_a_watch_that_tells_no_change_is_an_error(
    server: Server, api: KubeApi, lines: list[bytes], kind: type[KubeError]
) -> None:
    server.lines = lines
    with pytest.raises(KubeError) as broken:
        await watched(api)
    assert type(broken.value) is kind


@pytest.mark.parametrize(("status", "kind"), [(410, errors.Gone), (403, errors.Forbidden), (500, errors.Unreachable)])
async def test_a_watch_that_is_refused_is_an_error_of_its_kind(
    server: Server, api: KubeApi, status: int, kind: type[KubeError]
) -> None:
    server.answers = [(status, {"message": "no"})]
    with pytest.raises(kind, match="no"):
        await watched(api)


async def test_a_watch_that_falls_silent_ends(server: Server, api: KubeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "WATCH_SILENCE_S", 0.2)
    server.lines, server.stays_open = [line("ADDED", a=1)], True
    assert await watched(api) == [("ADDED", {"a": 1})]


async def test_however_many_watches_are_open_a_call_finds_a_connection(
    server: Server, api: KubeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "CALL_TIMEOUT_S", 5.0)
    server.stays_open = True
    # Seven kinds in each of twenty namespaces.
    watches = [asyncio.create_task(watched(api)) for _ in range(140)]
    async with asyncio.timeout(10):
        while server.watches < len(watches):
            await asyncio.sleep(0.01)
    assert await api.get(resources.PODS, "team", "p") == POD
    for task in watches:
        task.cancel()
    await asyncio.wait(watches)
