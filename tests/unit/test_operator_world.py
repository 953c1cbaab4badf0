"""What is known of a cluster, and whom a change wakes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import samples
from modelengine import kinds
from modelengine.protocol import ServerInfo
from modelengine.registry_configmap import Entry, Service, encode
from modelengine_kube import resources
from modelengine_kube.copies import Key
from modelengine_operator import manifests, names
from modelengine_operator.spec import Engine
from modelengine_operator.world import CHILDREN, World
from samples import modelengine

Object = dict[str, Any]
DELETED = {"deletionTimestamp": "2026-11-24T12:00:00Z"}


class Known:
    """A world, and who was woken since the last look."""

    def __init__(self) -> None:
        self.engines: set[Key] = set()
        self.registries: set[str] = set()
        self.order: list[str] = []
        self.world = World(self._wake_engine, self._wake_registry)
        self._version = 0

    def _wake_engine(self, key: Key) -> None:
        self.engines.add(key)
        self.order.append("engine")

    def _wake_registry(self, namespace: str) -> None:
        self.registries.add(namespace)
        self.order.append("registry")

    def learn(self, obj: Object) -> None:
        self._version += 1
        obj["metadata"]["resourceVersion"] = str(self._version)
        self.world.modelengines.learn(obj)

    def forget(self, obj: Object) -> None:
        self._version += 1
        self.world.modelengines.forget({**obj, "metadata": obj["metadata"] | {"resourceVersion": str(self._version)}})

    def tell(self, resource: resources.Resource, name: str, obj: Object | None, namespace: str = "team") -> None:
        self.world.on_change(resource)((namespace, name), obj)

    def woken(self) -> tuple[set[str], set[str]]:
        """The names of ModelEngines, and the namespaces whose registries are to be looked at."""
        found = {name for _, name in self.engines}, self.registries
        self.engines, self.registries = set(), set()
        self.order.clear()
        return found


@pytest.fixture
def known() -> Known:
    return Known()


def engine_of(known: Known, name: str) -> Engine:
    found = known.world.engine(("team", name))
    assert isinstance(found, Engine)
    return found


def served(name: str, serves: str, **metadata: Any) -> Object:
    return modelengine(name, {"model": {"source": "demo://", "name": serves}}, **metadata)


def pod(name: str, of: str = "qwen", *, is_ready: bool = True, namespace: str = "team") -> Object:
    return {
        "metadata": {
            "namespace": namespace,
            "name": name,
            "uid": f"uid-{name}",
            "labels": {kinds.LABEL_ENGINE: of} if of else {},
            "annotations": {kinds.ANNOTATION_SERVED_NAME: of},
        },
        "spec": {},
        "status": {"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": str(is_ready)}]},
    }


def registry(*entries: tuple[str, str], pods: int = 1) -> Object:
    """Of (name, ModelEngine), each with so many pods."""

    def services(name: str) -> tuple[Service, ...]:
        return tuple(Service(ServerInfo(name, "10.0.0.1", 8000), f"u-{i}", f"p-{i}") for i in range(pods))

    data = encode(Entry(name, "chat", engine, f"uid-{engine}", services(name)) for name, engine in entries)
    return {"metadata": {"namespace": "team", "name": kinds.REGISTRY_NAME}, "data": data}


# ModelEngines.


def test_a_new_one_is_known_and_is_to_be_looked_at(known: Known) -> None:
    obj = modelengine()
    known.learn(obj)
    assert known.woken() == ({"qwen"}, {"team"})
    assert known.world.object(("team", "qwen")) == obj
    assert engine_of(known, "qwen") == samples.engine("qwen", resourceVersion="1")
    assert known.world.engines("team") == [engine_of(known, "qwen")]
    assert known.world.engines("other") == []
    assert known.world.namespaces() == {"team"}


def test_a_change_of_the_status_alone_does_not_wake_the_registry(known: Known) -> None:
    known.learn(modelengine())
    known.woken()
    known.learn(modelengine() | {"status": {"reason": "Serving"}})
    assert known.woken() == ({"qwen"}, set())
    known.learn(modelengine("qwen", {"replicas": "many"}))
    assert known.woken() == ({"qwen"}, {"team"})


def test_one_that_is_gone_is_not_known_any_more_and_wakes_its_registry(known: Known) -> None:
    known.learn(modelengine())
    known.woken()
    known.forget(modelengine())
    assert known.woken() == ({"qwen"}, {"team"})
    assert known.world.object(("team", "qwen")) is None
    assert known.world.engines("team") == []
    assert known.world.namespaces() == set()
    with pytest.raises(KeyError):
        known.world.engine(("team", "qwen"))


def test_one_that_can_not_be_read_says_why_and_is_still_there(known: Known) -> None:
    known.learn(modelengine("qwen", {"replicas": "many"}))
    why = known.world.engine(("team", "qwen"))
    assert isinstance(why, str)
    assert why.startswith("spec.replicas: ")
    assert known.world.engines("team") == []
    [owner] = known.world.unreadable("team")
    assert (owner.name, owner.uid, owner.created) == ("qwen", "uid-qwen", samples.engine().created)
    assert known.world.unreadable("other") == []
    known.learn(modelengine("qwen", {"replicas": "many"}, **DELETED))
    assert known.world.unreadable("team") == []
    known.learn(modelengine())
    assert [engine.name for engine in known.world.engines("team")] == ["qwen"]
    assert known.world.unreadable("team") == []


def test_one_that_breaks_us_breaks_nobody_else(known: Known, caplog: pytest.LogCaptureFixture) -> None:
    broken = modelengine("broken")
    del broken["metadata"]["uid"]
    known.learn(broken)
    known.learn(modelengine())
    assert known.world.engine(("team", "broken")) == "the operator fails to read it; its log says how"
    assert [engine.name for engine in known.world.engines("team")] == ["qwen"]
    assert "team/broken" in caplog.text


def test_one_that_is_being_deleted_is_known_but_claims_nothing(known: Known) -> None:
    known.learn(served("old", "model", creationTimestamp="2026-11-01T10:00:00Z"))
    known.learn(served("young", "model"))
    known.woken()
    known.learn(served("old", "model", creationTimestamp="2026-11-01T10:00:00Z", **DELETED))
    assert known.woken() == ({"old", "young"}, {"team"})
    assert [engine.name for engine in known.world.engines("team")] == ["young"]
    assert known.world.name_owner(engine_of(known, "young")).name == "young"


def test_who_wants_a_name_that_others_want_wakes_them_too(known: Known) -> None:
    known.learn(served("old", "model", creationTimestamp="2026-11-01T10:00:00Z"))
    known.learn(served("other", "another"))
    known.woken()
    known.learn(served("young", "model"))
    assert known.woken() == ({"old", "young"}, {"team"})
    assert known.world.name_owner(engine_of(known, "young")).name == "old"
    assert known.world.name_owner(engine_of(known, "old")).name == "old"
    assert known.world.name_owner(engine_of(known, "other")).name == "other"


@pytest.mark.parametrize("how", ["renamed", "deleted", "broken"])
def test_who_gives_a_name_up_wakes_those_that_wait_for_it(known: Known, how: str) -> None:
    created = "2026-11-01T10:00:00Z"
    known.learn(served("old", "model", creationTimestamp=created))
    known.learn(served("young", "model"))
    known.woken()
    if how == "deleted":
        known.forget(served("old", "model"))
    else:
        after = served("old", "after", creationTimestamp=created)
        known.learn(after if how == "renamed" else after | {"spec": {}})
    assert known.woken() == ({"old", "young"}, {"team"})
    assert known.world.name_owner(engine_of(known, "young")).name == "young"


def test_the_same_name_in_another_namespace_is_another_one(known: Known) -> None:
    known.learn(served("a", "model", creationTimestamp="2026-11-01T10:00:00Z", namespace="elsewhere"))
    known.woken()
    known.learn(served("b", "model"))
    assert known.woken() == ({"b"}, {"team"})
    assert known.world.name_owner(engine_of(known, "b")).name == "b"


# Children.


@pytest.mark.parametrize("resource", CHILDREN, ids=lambda resource: resource.kind)
def test_a_child_s_change_wakes_its_modelengine(known: Known, resource: resources.Resource) -> None:
    made = samples.children(samples.engine("qwen", {"model": {"source": "hf://a/b"}, "cache": {"size": "1Gi"}}))
    child, name = made[resource], manifests.name_of("qwen", resource)
    known.tell(resource, name, child)
    assert known.woken() == ({"qwen"}, set())
    assert known.world.children(("team", "qwen")) == {resource: child}
    assert known.world.children(("elsewhere", "qwen")) == {}
    known.tell(resource, name, None)
    assert known.woken() == ({"qwen"}, set())
    assert known.world.children(("team", "qwen")) == {}


def test_a_child_of_nobody_wakes_nobody(known: Known) -> None:
    known.tell(resources.SERVICES, "x", {"metadata": {"namespace": "team", "name": "x"}})
    known.tell(resources.SERVICES, "y", None)
    assert known.woken() == (set(), set())


def test_all_kinds_that_are_made_are_followed() -> None:
    made = manifests.all_of(
        samples.engine("qwen", {"model": {"source": "hf://a/b"}, "cache": {"size": "1Gi"}}), samples.SETTINGS
    )
    assert {resource for resource, _ in made} == set(CHILDREN)


# Pods.


def test_a_pod_wakes_the_registry_first_and_then_its_modelengine(known: Known) -> None:
    known.tell(resources.PODS, "p", pod("p"))
    assert known.order == ["registry", "engine"]
    assert known.woken() == ({"qwen"}, {"team"})
    assert [found.name for found in known.world.pods(("team", "qwen"))] == ["p"]
    assert known.world.pods(("elsewhere", "qwen")) == []
    assert known.world.pod_uids() == {"uid-p"}
    assert known.world.namespaces() == {"team"}


def test_a_pod_that_changes_is_known_once_as_it_is_now(known: Known) -> None:
    known.tell(resources.PODS, "p", pod("p", is_ready=False))
    known.tell(resources.PODS, "p", pod("p"))
    [found] = known.world.pods_of_namespace("team")
    assert found.is_ready


def test_a_change_that_no_registry_shows_does_not_wake_it(known: Known) -> None:
    starting = pod("p", is_ready=False)
    known.tell(resources.PODS, "p", starting)
    known.tell(resources.PODS, "p", starting | {"spec": {"nodeName": "n"}})
    assert known.woken() == ({"qwen"}, set())
    known.tell(resources.PODS, "p", pod("p"))
    assert known.woken() == ({"qwen"}, {"team"})
    known.tell(resources.PODS, "p", pod("p") | {"spec": {"nodeName": "n"}})
    assert known.woken() == ({"qwen"}, set())
    moved = pod("p")
    moved["status"]["podIP"] = "10.0.0.2"
    known.tell(resources.PODS, "p", moved)
    assert known.woken() == ({"qwen"}, {"team"})
    known.tell(resources.PODS, "p", pod("p", is_ready=False))
    assert known.woken() == ({"qwen"}, {"team"})


def test_a_pod_that_is_gone_is_not_known_any_more(known: Known) -> None:
    known.tell(resources.PODS, "p", pod("p"))
    known.woken()
    known.tell(resources.PODS, "p", None)
    assert known.woken() == ({"qwen"}, {"team"})
    assert known.world.pods(("team", "qwen")) == []
    assert known.world.pods_of_namespace("team") == []
    known.tell(resources.PODS, "never", None)


@pytest.mark.parametrize("to", ["other", ""])
def test_a_pod_whose_label_is_changed_by_hand_leaves_its_modelengine(known: Known, to: str) -> None:
    known.tell(resources.PODS, "p", pod("p"))
    known.woken()
    known.tell(resources.PODS, "p", pod("p", to))
    assert known.woken() == ({"qwen", to}, {"team"})
    assert known.world.pods(("team", "qwen")) == []
    assert [found.name for found in known.world.pods(("team", to))] == ["p"]
    known.tell(resources.PODS, "p", None)
    assert known.world.pod_uids() == set()


def test_a_pod_that_breaks_us_breaks_no_other(known: Known, caplog: pytest.LogCaptureFixture) -> None:
    known.tell(resources.PODS, "q", {"metadata": {"name": "q"}})
    known.tell(resources.PODS, "p", pod("p"))
    assert known.world.pod_uids() == {"uid-p"}
    assert "team/q" in caplog.text


def test_pods_of_one_namespace_are_those_of_all_its_modelengines(known: Known) -> None:
    for name, of, namespace in (("a", "qwen", "team"), ("b", "other", "team"), ("c", "qwen", "elsewhere")):
        known.tell(resources.PODS, name, pod(name, of, namespace=namespace), namespace)
    assert {found.name for found in known.world.pods_of_namespace("team")} == {"a", "b"}


# The registry.


def test_a_registry_tells_who_is_listed(known: Known) -> None:
    known.learn(served("qwen", "model"))
    known.tell(resources.CONFIG_MAPS, kinds.REGISTRY_NAME, registry(("model", "qwen"), ("before", "qwen"), pods=2))
    engine = engine_of(known, "qwen")
    assert [service.uid for service in known.world.listed(engine)] == ["u-0", "u-1"]
    assert {service.info.name for service in known.world.listed(engine)} == {"model"}
    assert len(known.world.listed_anyhow("team", engine.uid)) == 4
    assert known.world.listed_anyhow("team", "other") == []
    assert known.world.registry("team") is not None
    assert known.world.registry("elsewhere") is None


def test_a_change_of_a_registry_wakes_it_and_those_whose_entries_changed(known: Known) -> None:
    known.tell(resources.CONFIG_MAPS, kinds.REGISTRY_NAME, registry(("a", "one"), ("b", "two")))
    assert known.woken() == ({"one", "two"}, {"team"})
    known.tell(resources.CONFIG_MAPS, kinds.REGISTRY_NAME, registry(("a", "one"), ("b", "two"), ("c", "three")))
    assert known.woken() == ({"three"}, {"team"})
    known.tell(resources.CONFIG_MAPS, kinds.REGISTRY_NAME, registry(("a", "one"), ("b", "two"), ("c", "three")))
    assert known.woken() == (set(), {"team"})
    known.tell(resources.CONFIG_MAPS, kinds.REGISTRY_NAME, None)
    assert known.woken() == ({"one", "two", "three"}, {"team"})
    assert known.world.registry("team") is None


@pytest.mark.parametrize("data", [None, {}, {"chat.a": "garbage"}, {"x": 1}])
def test_a_registry_of_garbage_lists_nobody(known: Known, data: Object | None) -> None:
    known.learn(served("qwen", "a"))
    known.tell(resources.CONFIG_MAPS, kinds.REGISTRY_NAME, registry(("a", "qwen")))
    broken = registry() | {"data": data}
    if data is None:
        del broken["data"]
    known.tell(resources.CONFIG_MAPS, kinds.REGISTRY_NAME, broken)
    assert known.world.listed(engine_of(known, "qwen")) == []
    assert known.world.registry("team") == broken


def test_an_entry_of_a_predecessor_of_the_same_name_is_not_ours(known: Known) -> None:
    known.learn(served("qwen", "a", uid="uid-new"))
    known.tell(resources.CONFIG_MAPS, kinds.REGISTRY_NAME, registry(("a", "qwen")))
    assert known.world.listed(engine_of(known, "qwen")) == []


NAMES = st.sampled_from("abc")
STEPS = st.lists(
    st.tuples(NAMES, st.sampled_from(["x", "y", "broken", "deleting", "gone"]), st.integers(1, 3)), max_size=15
)


@given(STEPS)
def test_in_whatever_order_changes_come_names_have_the_owner_that_the_rules_give(
    steps: list[tuple[str, str, int]],
) -> None:
    known = Known()
    for name, what, day in steps:
        obj = served(name, what, creationTimestamp=f"2026-11-0{day}T10:00:00Z")
        if what == "gone":
            known.forget(obj)
        elif what == "broken":
            known.learn(obj | {"spec": {}})
        else:
            known.learn(served(name, "x", **DELETED) if what == "deleting" else obj)
    there = known.world.engines("team")
    for engine in there:
        wanting = [other for other in there if names.name_key(other) == names.name_key(engine)]
        assert known.world.name_owner(engine) == names.owner(wanting)
    assert {claim for claim, claimants in known.world._claims.items() if claimants} == {
        ("team", names.name_key(engine)) for engine in there
    }
    assert len(known.world._claims) == len({engine.served_name for engine in there})
