"""Who serves which name: conflicts of names and of objects, and a registry that heals whatever is done to it."""

from __future__ import annotations

import contextlib
import json
import random
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from cluster import operators
from cluster.admin import Object, Refused
from cluster.harness.control_plane import ControlPlane
from cluster.harness.processes import until
from cluster.kubelets import Kubelet
from cluster.operators import Operator, Site
from modelengine import kinds
from modelengine_kube import resources
from modelengine_kube.resources import Resource

# Of a registry that somebody has spoilt.
HEALED_S = 5.0


@pytest.fixture(scope="module")
def operator(control_plane: ControlPlane, kubelet: Kubelet) -> Iterator[Operator]:
    with operators.everywhere(control_plane, "operator-names", code=operators.SOON) as operator:
        yield operator


def holder(site: Site, name: str) -> str:
    """The ModelEngine that the registry says serves the name."""
    entry = site.registry().get(f"chat.{name}")
    return str(entry["engine"]["name"]) if entry else ""


def test_of_two_that_want_one_name_the_older_has_it_and_the_younger_takes_over_when_it_goes(site: Site) -> None:
    site.engine("older", model={"name": "shared"})
    site.until_reason("older", "Serving")
    # Kubernetes tells ages by the second.
    time.sleep(1.1)
    site.engine("younger", model={"name": "shared"})
    site.until_reason("younger", "NameConflict: older")
    assert site.child("younger") is None
    assert site.condition("younger", "Stalled")["status"] == "True"
    assert holder(site, "shared") == "older"
    site.delete("older")
    site.until_reason("younger", "Serving")
    assert holder(site, "shared") == "younger"
    assert site.condition("younger", "NameConflict") == {}


def test_who_asks_for_a_name_that_is_taken_goes_on_serving_the_one_it_has(site: Site) -> None:
    site.engine("older", model={"name": "taken"})
    time.sleep(1.1)
    site.engine("younger", model={"name": "own"})
    for name in ("older", "younger"):
        site.until_reason(name, "Serving")
    site.change("younger", model={"name": "taken"})
    site.until_reason("younger", "NameConflict")
    time.sleep(1)
    assert (holder(site, "taken"), holder(site, "own")) == ("older", "younger")
    site.change("older", model={"name": "free"})
    site.until_reason("younger", "Serving")
    until(lambda: (holder(site, "taken"), holder(site, "free")) == ("younger", "older"), 10, "both have new names")


THEIRS: dict[Resource, Object] = {
    resources.SERVICES: {"spec": {"ports": [{"port": 80}], "selector": {"app": "theirs"}}},
    resources.SERVICE_ACCOUNTS: {"automountServiceAccountToken": True},
    resources.DEPLOYMENTS: {
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": "theirs"}},
            "template": {
                "metadata": {"labels": {"app": "theirs"}},
                "spec": {"containers": [{"name": "theirs", "image": "theirs"}]},
            },
        }
    },
}


def test_somebody_elses_object_under_our_name_is_never_written_over_and_when_it_is_gone_all_is_well(
    site: Site,
) -> None:
    """With our labels on it, which our watches see, and without."""
    cases = {f"{resource.plural}-{how}": (resource, how) for resource in THEIRS for how in ("plain", "labelled")}
    made = {}
    for name, (resource, how) in cases.items():
        labels = dict(kinds.labels(name)) if how == "labelled" else {}
        meta = {"name": kinds.child_name(name), "namespace": site.namespace, "labels": labels}
        made[name] = site.admin.create(resource, {"metadata": meta, **THEIRS[resource]})
        site.engine(name)
    for name, (resource, _) in cases.items():
        site.until_reason(name, f"ObjectConflict: {resource.kind} {name}-engine")
        now = site.child(name, resource)
        assert now is not None
        assert now.get("spec") == made[name].get("spec")
        assert now["metadata"].get("ownerReferences") is None
        site.admin.delete(resource, site.namespace, kinds.child_name(name))
    for name in cases:
        site.until_reason(name, "Serving", 30)


def mutations(rng: random.Random, data: dict[str, str]) -> Iterator[Callable[[Site], object]]:
    """Endless ways to spoil a registry with two names in it."""

    def patched(patch: Object) -> Callable[[Site], object]:
        return lambda site: site.admin.merge(resources.CONFIG_MAPS, site.namespace, kinds.REGISTRY_NAME, patch)

    def wrong(key: str, change: Callable[[Object], object]) -> Callable[[Site], object]:
        entry = json.loads(data[key])
        change(entry)
        return patched({"data": {key: json.dumps(entry)}})

    while True:
        key = rng.choice(sorted(data))
        address = f"10.{rng.randrange(256)}.0.{rng.randrange(1, 255)}"
        yield rng.choice(
            [
                lambda site: site.admin.delete(resources.CONFIG_MAPS, site.namespace, kinds.REGISTRY_NAME),
                patched({"data": None}),
                patched({"data": {key: None}}),
                patched({"data": {key: rng.choice(["", "{", "null", "[]", '{"name":1}', data[key][:-1], "\\u0000"])}}),
                patched({"data": {f"chat.foreign-{rng.randrange(99)}": data[key]}}),
                patched({"data": {f"chat.foreign-{rng.randrange(99)}": "text"}}),
                patched({"binaryData": {"chat.bytes": "AAAA"}}),
                wrong(key, lambda entry, host=address: entry["services"][0].update(host=host)),
                wrong(key, lambda entry: entry["services"][0].update(port=rng.randrange(1, 65536))),
                wrong(key, lambda entry: entry["services"][0].update(uid="another", pod="another")),
                wrong(key, lambda entry: entry["services"].append({**entry["services"][0], "uid": "more"})),
                wrong(key, lambda entry: entry["services"].clear()),
                wrong(key, lambda entry: entry["engine"].update(uid="another")),
            ]
        )


def test_a_registry_heals_within_seconds_whatever_is_done_to_it(site: Site) -> None:
    for name in ("one", "two"):
        site.engine(name)
    for name in ("one", "two"):
        site.until_reason(name, "Serving")
    site.until_quiet(1.0)
    wanted: dict[str, str] = site.admin.get(resources.CONFIG_MAPS, site.namespace, kinds.REGISTRY_NAME)["data"]
    slowest = 0.0
    for i, spoil in zip(range(50), mutations(random.Random(4), wanted), strict=False):
        spoil(site)
        began = time.monotonic()

        def is_healed() -> bool:
            found = site.admin.find(resources.CONFIG_MAPS, site.namespace, kinds.REGISTRY_NAME)
            return found is not None and found.get("data") == wanted and "binaryData" not in found

        until(is_healed, HEALED_S, f"healed after mutation {i}", pause_s=0.01)
        slowest = max(slowest, time.monotonic() - began)
    for name in ("one", "two"):
        site.until_reason(name, "Serving")
    print(f"slowest: {slowest:.2f} s")


def test_a_rival_that_writes_the_registry_all_the_time_delays_a_new_replica_by_seconds_only(site: Site) -> None:
    site.engine("demo")
    site.until_reason("demo", "Serving")
    ended = threading.Event()

    def write() -> None:
        count = 0
        while not ended.wait(0.02):
            count += 1
            patch = {"data": {"chat.rival": str(count)}}
            with contextlib.suppress(Refused):
                site.admin.merge(resources.CONFIG_MAPS, site.namespace, kinds.REGISTRY_NAME, patch)

    rival = threading.Thread(target=write)
    rival.start()
    try:
        site.change("demo", replicas=2)
        until(lambda: len(site.pods("demo")) == 2, 20, "a second pod")
        until(lambda: len(site.listed("demo")) == 2, HEALED_S, "both are listed")
    finally:
        ended.set()
        rival.join()
    until(lambda: list(site.registry()) == ["chat.demo"], HEALED_S, "the rival's key is gone")
