"""What the operator makes of a ModelEngine on a real API server: it is taken, Pod Security lets its pods be, and
nothing of it is written twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import crd_values
from cluster.harness.control_plane import ControlPlane
from cluster.harness.processes import until
from modelengine import kinds
from modelengine_kube import connect, errors, resources
from modelengine_kube.api import KubeApi
from modelengine_operator import crd, diff, findings, manifests, spec
from modelengine_operator.observed import Observed
from modelengine_operator.spec import Engine
from samples import SETTINGS

Object = dict[str, Any]
ROOT = Path(__file__).parents[2]
DEMO: Object = {"model": {"source": "demo://"}}
SOURCES: Mapping[str, Object] = {
    "demo": DEMO,
    "hub": {"model": {"source": "hf://a/b"}},
    "hub, own claim": {"model": {"source": "hf://a/b"}, "cache": {"size": "1.5Gi"}},
    "hub, claim": {"model": {"source": "hf://a/b"}, "cache": {"claim": "downloads"}},
    "claim": {"model": {"source": "pvc://models"}},
    "claim, folder": {"model": {"source": "pvc://models/qwen"}},
}
# Whatever a user may write for a number, and what an API server makes of it.
QUANTITIES = (
    *("0", "1", 5, "1.0", "1.50", "0.1", "1000m", "100m", "1u", "1n", "1.1n", "0.0000000001", "123456789.123456789"),
    *("1k", "2Ki", "1.25G", "0.5Gi", "0.3Gi", "1025Mi", "1024Mi", "7Ei", "1e3", "10e2", "1e0"),
    *("8Ei", "12E", "99E", "1e99", "9" * 22),
)
SIZES = ("1Mi", "1048576", "1048.576k", "100M", "0.3Gi", "0.5Gi", "65.5Mi", "1024Mi", "1Ti")


class Cluster:
    """The operator's hands in one namespace."""

    def __init__(self, api: KubeApi, namespace: str) -> None:
        self.api = api
        self.namespace = namespace
        self._few = asyncio.Semaphore(16)

    async def store(self, given: Object, name: str = "qwen") -> Engine:
        """The ModelEngine as the API server has it, with its defaults."""
        obj = {"apiVersion": kinds.API_VERSION, "kind": kinds.KIND, "spec": given}
        obj["metadata"] = {"namespace": self.namespace, "name": name}
        return spec.parse(await self.api.apply(resources.MODELENGINES, obj))

    async def make(self, engine: Engine) -> dict[resources.Resource, Object]:
        return {r: await self.api.apply(r, manifest) for r, manifest in manifests.all_of(engine, SETTINGS)}

    async def left_to_write(self, given: Object, name: str = "qwen") -> list[str]:
        """Makes it all, and gives what would be written again at the next look."""
        async with self._few:
            engine = await self.store(given, name)
            try:
                made = await self.make(engine)
            except errors.Invalid:
                # Stricter than our schema; the status says why.
                return []
            found = {r: await self.api.get(r, self.namespace, made[r]["metadata"]["name"]) for r in made}
            wanted = manifests.all_of(engine, SETTINGS)
            again = [
                f"{given}: {r.kind}" for r, m in wanted if diff.needs_write(m, made[r]) or diff.needs_write(m, found[r])
            ]
            await self.api.delete(resources.MODELENGINES, self.namespace, name)
            return again


@pytest.fixture
async def cluster(
    control_plane: ControlPlane, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Cluster]:
    control_plane.kubectl("apply", "--server-side", "-f", ROOT / crd.FILE)
    # `kubectl wait` fails while there is no status yet.
    established = ("get", "-f", ROOT / crd.FILE, "-o", "jsonpath={.status.conditions[?(@.type=='Established')].status}")
    until(lambda: control_plane.kubectl(*established) == "True", 30, "the CRD")
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig))
    async with await connect.client() as client:
        yield Cluster(KubeApi(client, kinds.MANAGER), namespace)


async def test_what_was_made_of_any_field_is_not_written_again(cluster: Cluster) -> None:
    # An image volume is dropped by an API server of before 1.35.
    given = [s for row in crd_values.ROWS for s in row.specs() if not s["model"]["source"].startswith("oci://")]
    assert len(given) > 150
    async with asyncio.timeout(120):
        again = await asyncio.gather(*(cluster.left_to_write(one, f"e{i}") for i, one in enumerate(given)))
    assert [one for found in again for one in found] == []


async def test_what_was_made_of_any_quantity_is_not_written_again(cluster: Cluster) -> None:
    limits: list[Object] = [DEMO | {"resources": {"limits": {"memory": q, "cpu": q}}} for q in QUANTITIES]
    shm: list[Object] = [DEMO | {"shmSize": size} for size in SIZES]
    caches: list[Object] = [SOURCES["hub"] | {"cache": {"size": size}} for size in SIZES]
    async with asyncio.timeout(120):
        given = [*limits, *shm, *caches]
        again = await asyncio.gather(*(cluster.left_to_write(one, f"e{i}") for i, one in enumerate(given)))
    assert [one for found in again for one in found] == []


def with_env(names: str) -> Object:
    return DEMO | {"runtime": {"env": [{"name": name, "value": f"{name} $(A)"} for name in names]}}


async def test_every_change_is_written_once_and_in_its_order(cluster: Cluster) -> None:
    for given in (DEMO, *map(with_env, ("ABC", "CAB", "CXAB", "B")), *SOURCES.values(), DEMO | {"replicas": 0}):
        engine = await cluster.store(given)
        before = (await cluster.make(engine))[resources.DEPLOYMENTS]
        made = await cluster.make(engine)
        after = made[resources.DEPLOYMENTS]
        assert before["metadata"]["generation"] == after["metadata"]["generation"]
        assert [m["kind"] for r, m in manifests.all_of(engine, SETTINGS) if diff.needs_write(m, made[r])] == []
        env = after["spec"]["template"]["spec"]["containers"][0]["env"]
        assert [e["name"] for e in env if len(e["name"]) == 1] == [v.name for v in engine.spec.runtime.env]


async def test_what_others_add_is_left_and_what_they_change_is_put_back(cluster: Cluster) -> None:
    engine = await cluster.store(with_env("A"))
    [wanted] = [m for r, m in manifests.all_of(engine, SETTINGS) if r is resources.DEPLOYMENTS]
    made = (await cluster.make(engine))[resources.DEPLOYMENTS]
    # Whatever the controller writes meanwhile.
    del made["metadata"]["resourceVersion"]
    template = made["spec"]["template"]
    template["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"] = "2026-11-24T10:00:00Z"
    template["spec"]["containers"][0]["env"].append({"name": "THEIRS", "value": "1"})
    more = await cluster.api.replace(resources.DEPLOYMENTS, made)
    assert not diff.needs_write(wanted, more)

    del more["metadata"]["resourceVersion"]
    more["spec"]["template"]["spec"]["tolerations"].append({"key": "x", "operator": "Exists"})
    changed = await cluster.api.replace(resources.DEPLOYMENTS, more)
    assert diff.needs_write(wanted, changed)
    healed = await cluster.api.apply(resources.DEPLOYMENTS, wanted)
    assert not diff.needs_write(wanted, healed)
    assert "THEIRS" in str(healed["spec"])


@pytest.mark.parametrize("name", SOURCES)
async def test_the_pods_are_allowed_where_pod_security_is_restricted(
    cluster: Cluster, control_plane: ControlPlane, namespace: str, name: str
) -> None:
    control_plane.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    engine = await cluster.store(SOURCES[name])
    made = await cluster.make(engine)
    template = made[resources.DEPLOYMENTS]["spec"]["template"]
    pod = {"apiVersion": "v1", "kind": "Pod", **template}
    pod["metadata"] = {**template["metadata"], "namespace": namespace, "name": "as-the-controller-makes-it"}
    assert (await cluster.api.create(resources.PODS, pod))["metadata"]["uid"]
    pod["metadata"]["name"], pod["spec"]["hostNetwork"] = "no", True
    with pytest.raises(errors.Forbidden, match="violates PodSecurity"):
        await cluster.api.create(resources.PODS, pod)


async def test_the_image_volume_of_a_cluster_that_has_none_is_dropped_and_found_out(cluster: Cluster) -> None:
    engine = await cluster.store({"model": {"source": "oci://registry.example/model:1"}})
    children = await cluster.make(engine)
    obj = await cluster.api.get(resources.MODELENGINES, cluster.namespace, "qwen")
    found = findings.first(Observed(obj, engine, children=children), SETTINGS)
    has_them = "'image'" in str(children[resources.DEPLOYMENTS]["spec"]["template"]["spec"]["volumes"])
    assert (found.reason == findings.NO_IMAGE_VOLUMES) is not has_them
