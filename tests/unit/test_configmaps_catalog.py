"""What the registries of all namespaces say together: whose a name is, and what is believed of garbage."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from modelengine.protocol import ServerInfo
from modelengine.registry_configmap import Entry, Service, encode, encode_key
from modelengine_gateway.catalog import Catalog

DEMO = ("chat", "demo")
KEY = encode_key(*DEMO)


def entry(*pods: str, name: str = "demo", engine: str = "e") -> Entry:
    """An entry with a replica for each pod; a pod's address follows from its name."""
    host = "10.0.0.{}".format
    services = [Service(ServerInfo(name, host(sum(pod.encode()) % 250 + 1), 8000), pod, pod) for pod in sorted(pods)]
    return Entry(name, "chat", engine, f"uid-{engine}", tuple(services))


@pytest.fixture
def catalog() -> Catalog:
    return Catalog("home")


def test_a_name_stands_for_the_entry_of_its_namespace(catalog: Catalog) -> None:
    assert catalog.take("team", encode([entry("a", "b")])).changed == {DEMO}
    assert catalog.entry(DEMO) == entry("a", "b")
    assert catalog.entry(("chat", "other")) is None
    assert catalog.entry(("retriever", "demo")) is None


def test_the_same_again_is_no_change_and_other_names_of_a_registry_are_none_either(catalog: Catalog) -> None:
    catalog.take("team", encode([entry("a"), entry("b", name="other")]))
    assert catalog.take("team", encode([entry("a"), entry("b", name="other")])).changed == set()
    assert catalog.take("team", encode([entry("a"), entry("c", name="other")])).changed == {("chat", "other")}


def test_the_own_namespace_goes_first_then_the_alphabet_and_replicas_are_never_mixed(catalog: Catalog) -> None:
    for namespace in ("zoo", "area", "home"):
        catalog.take(namespace, encode([entry(f"pod-{namespace}")]))
    for owner, hidden in (("home", ["area", "zoo"]), ("area", ["zoo"]), ("zoo", [])):
        assert catalog.entry(DEMO) == entry(f"pod-{owner}")
        assert catalog.shadowed(DEMO) == (owner, hidden)
        catalog.drop(owner)
    assert catalog.entry(DEMO) is None


def test_a_name_whose_replicas_are_all_gone_is_not_handed_to_another_namespace(catalog: Catalog) -> None:
    catalog.take("zoo", encode([entry("stranger")]))
    catalog.take("home", encode([entry()]))
    assert catalog.entry(DEMO) == entry()


def test_an_emptied_registry_has_no_names(catalog: Catalog) -> None:
    catalog.take("team", encode([entry("a")]))
    assert catalog.take("team", {}).changed == {DEMO}
    assert catalog.entry(DEMO) is None


def test_a_key_that_turns_to_garbage_keeps_its_last_good_entry_until_it_is_good_or_gone(catalog: Catalog) -> None:
    good = encode([entry("a"), entry("b", name="other")])
    catalog.take("team", good)
    for _ in range(2):
        told = catalog.take("team", {**good, KEY: "{"})
        assert (told.changed, told.complaints) == (set(), [f"'{KEY}': is not JSON"])
        assert catalog.entry(DEMO) == entry("a")
    assert catalog.take("team", {**good, **encode([entry("c")])}).changed == {DEMO}
    assert catalog.entry(DEMO) == entry("c")
    catalog.take("team", dict.fromkeys(good, "{"))
    assert catalog.entry(DEMO) == entry("c")
    del good[KEY]
    assert catalog.take("team", good).changed == {DEMO}


def test_garbage_that_was_never_good_is_nothing(catalog: Catalog) -> None:
    told = catalog.take("team", {"foreign": "key", KEY: "no"})
    assert (told.changed, len(told.complaints)) == (set(), 2)
    assert catalog.entry(DEMO) is None


def test_a_registry_of_one_namespace_does_not_touch_anothers(catalog: Catalog) -> None:
    catalog.take("one", encode([entry("a")]))
    catalog.take("two", encode([entry("b", name="other")]))
    catalog.take("one", {})
    assert catalog.entry(("chat", "other")) == entry("b", name="other")


def test_dropping_what_was_never_there_is_no_change(catalog: Catalog) -> None:
    assert catalog.drop("nowhere").changed == set()


def test_a_replica_is_told_from_its_follower_at_the_same_address(catalog: Catalog) -> None:
    old = entry("a").services[0]
    follower = Service(old.info, "another-uid", "b")
    catalog.take("team", encode([entry("a")]))
    assert catalog.holds(old)
    assert not catalog.holds(follower)
    catalog.take("team", encode([Entry("demo", "chat", "e", "u", (follower,))]))
    assert not catalog.holds(old)


class AgainstAModel(RuleBasedStateMachine):
    """Any sequence of registries gives what a plain dict of what was last written gives."""

    namespaces = st.sampled_from(["area", "home", "zoo"])
    names = st.sampled_from(["demo", "org/other", "名"])

    def __init__(self) -> None:
        super().__init__()
        self.catalog = Catalog("home")
        self.told: dict[str, dict[str, Entry]] = {}

    @rule(namespace=namespaces, has=st.dictionaries(names, st.sets(st.sampled_from("abc"))), garbage=st.sets(names))
    def write(self, namespace: str, has: dict[str, set[str]], garbage: set[str]) -> None:
        before = {name: self.of(name) for name in ("demo", "org/other", "名")}
        good = {name: entry(*pods, name=name) for name, pods in has.items() if name not in garbage}
        data = encode(good.values()) | {encode_key("chat", name): "garbage" for name in garbage}
        changed = self.catalog.take(namespace, data).changed
        last = self.told.get(namespace, {})
        self.told[namespace] = good | {name: last[name] for name in garbage if name in last}
        assert {name for name, old in before.items() if old != self.of(name)} <= {name for _, name in changed}

    @rule(namespace=namespaces)
    def drop(self, namespace: str) -> None:
        self.catalog.drop(namespace)
        self.told.pop(namespace, None)

    def of(self, name: str) -> Entry | None:
        for namespace in ("home", "area", "zoo"):
            if name in self.told.get(namespace, {}):
                return self.told[namespace][name]
        return None

    @invariant()
    def both_agree(self) -> None:
        for name in ("demo", "org/other", "名"):
            assert self.catalog.entry(("chat", name)) == self.of(name)


AgainstAModel.TestCase.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
test_any_sequence_of_registries_agrees_with_a_plain_model = AgainstAModel.TestCase
