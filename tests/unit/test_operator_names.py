"""Who serves which name: the registry's content."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

import samples
from modelengine.registry_configmap import Entry, decode
from modelengine_operator import names, podstate
from modelengine_operator.names import Owner
from modelengine_operator.podstate import PodState, Trouble
from modelengine_operator.spec import Engine
from samples import state


def engine(name: str, serves: str = "", *, day: int = 1, uid: str = "") -> Engine:
    model = {"source": "demo://"} | ({"name": serves} if serves else {})
    return samples.engine(
        name, {"model": model}, uid=uid or f"uid-{name}", creationTimestamp=f"2026-11-{day:02}T10:00:00Z"
    )


def pod(name: str, of: str, serves: str, **other: object) -> PodState:
    return state(name, engine=of, served_name=serves, **other)


def entries(registry: names.Registry) -> list[Entry]:
    found, complaints = decode(registry.data)
    assert complaints == []
    return found


def shown(registry: names.Registry) -> dict[str, tuple[str, list[str]]]:
    """name -> (the ModelEngine, its pods)"""
    return {e.name: (e.engine, [service.pod for service in e.services]) for e in entries(registry)}


def test_a_name_lists_the_replicas_that_are_ready_with_all_that_callers_need() -> None:
    found = names.registry(
        [engine("qwen", "Qwen/Qwen3")], [pod("b", "qwen", "Qwen/Qwen3"), pod("a", "qwen", "Qwen/Qwen3")]
    )
    assert list(found.data) == ["chat.Qwen_2FQwen3"]
    service = {"name": "Qwen/Qwen3", "host": "10.0.0.1", "port": 8000, "protocol": "chat"}
    assert json.loads(found.data["chat.Qwen_2FQwen3"]) == {
        "name": "Qwen/Qwen3",
        "protocol": "chat",
        "engine": {"name": "qwen", "uid": "uid-qwen"},
        "services": [service | {"uid": "uid-a", "pod": "a"}, service | {"uid": "uid-b", "pod": "b"}],
    }
    assert found.left_out == frozenset()


def test_the_order_of_what_is_known_changes_nothing() -> None:
    engines = [engine("a", "x"), engine("b", "y", day=2)]
    pods = [pod("1", "a", "x"), pod("2", "a", "x"), pod("3", "b", "y")]
    assert list(names.registry(engines, pods).data.items()) == list(
        names.registry(engines[::-1], pods[::-1]).data.items()
    )


AWAY = {"qwen": ("qwen", list[str]())}


def test_a_name_without_a_ready_replica_is_known_and_lists_nobody() -> None:
    assert shown(names.registry([engine("qwen")], [])) == AWAY


def test_who_is_not_ready_or_leaves_or_has_no_address_or_no_name_is_not_listed() -> None:
    pods = [
        pod("a", "qwen", "qwen", is_ready=False),
        pod("b", "qwen", "qwen", is_leaving=True),
        pod("c", "qwen", "qwen", ip=""),
        pod("d", "qwen", ""),
    ]
    assert shown(names.registry([engine("qwen")], pods)) == AWAY


def test_pods_of_nobody_that_is_known_are_not_listed() -> None:
    assert shown(names.registry([engine("qwen")], [pod("a", "gone", "qwen"), pod("b", "", "qwen")])) == AWAY


def test_the_oldest_of_several_has_the_name_and_its_pods_alone_are_listed() -> None:
    young, old = engine("a", "model", day=2), engine("b", "model", day=1)
    pods = [pod("1", "a", "model"), pod("2", "b", "model")]
    assert names.owner([young, old]) is old
    assert shown(names.registry([young, old], pods)) == {"model": ("b", ["2"])}


def test_of_two_that_were_made_in_one_second_it_is_always_the_same_one() -> None:
    one, other = engine("a", "model", uid="u-2"), engine("b", "model", uid="u-1")
    assert names.owner([one, other]) is names.owner([other, one]) is other


def test_a_name_is_not_listed_before_its_owner_serves_it_though_another_does() -> None:
    engines = [engine("old", "model"), engine("young", "model", day=2)]
    assert shown(names.registry(engines, [pod("1", "young", "model")])) == {"model": ("old", [])}


def test_during_a_change_of_the_name_old_pods_serve_the_old_one() -> None:
    pods = [pod("1", "qwen", "before"), pod("2", "qwen", "after")]
    found = names.registry([engine("qwen", "after")], pods)
    assert shown(found) == {"before": ("qwen", ["1"]), "after": ("qwen", ["2"])}


def test_a_name_that_was_given_up_goes_to_who_wants_it_now() -> None:
    engines = [engine("old", "after"), engine("young", "before", day=2)]
    pods = [pod("1", "old", "before"), pod("2", "young", "before")]
    assert shown(names.registry(engines, pods)) == {"before": ("young", ["2"]), "after": ("old", [])}


def test_a_name_that_nobody_wants_stays_with_the_oldest_that_still_serves_it() -> None:
    engines = [engine("young", "y", day=2), engine("old", "x", day=1)]
    pods = [pod("1", "young", "before"), pod("2", "old", "before")]
    for order in (pods, pods[::-1]):
        found = shown(names.registry(engines, order))
        assert found == {"before": ("old", ["2"]), "x": ("old", []), "y": ("young", [])}


def test_one_name_of_two_protocols_is_two() -> None:
    pods = [pod("1", "qwen", "qwen"), pod("2", "qwen", "qwen", protocol="retriever")]
    found = entries(names.registry([engine("qwen")], pods))
    assert {(e.protocol, e.name) for e in found} == {("chat", "qwen"), ("retriever", "qwen")}


UNHEARD = Trouble(podstate.NODE_SILENT, "node-1 has gone silent", "node-1")


def test_a_pod_of_a_node_that_is_not_heard_is_better_than_none() -> None:
    silent = pod("a", "qwen", "qwen", is_ready=False, trouble=UNHEARD)
    assert shown(names.registry([engine("qwen")], [silent])) == {"qwen": ("qwen", ["a"])}
    heard = pod("b", "qwen", "qwen")
    assert shown(names.registry([engine("qwen")], [silent, heard])) == {"qwen": ("qwen", ["b"])}


def test_a_pod_in_another_trouble_is_worse_than_none() -> None:
    lost = pod("a", "qwen", "qwen", is_ready=False, is_leaving=True, trouble=UNHEARD)
    broken = pod("b", "qwen", "qwen", is_ready=False, trouble=Trouble(podstate.PROBE_FAILED, ""))
    assert shown(names.registry([engine("qwen")], [lost, broken])) == AWAY


def test_a_change_of_a_pod_concerns_the_registry_where_it_changes_an_entry() -> None:
    one = pod("a", "qwen", "qwen")
    same = dataclasses.replace(one, node="node-2", trouble=None, is_starting=True)
    assert names.listing(one) == names.listing(same)
    changes: list[dict[str, object]] = [
        {"engine": "other"},
        {"protocol": "retriever"},
        {"served_name": "x"},
        {"ip": "10.0.0.9"},
        {"uid": "u-9"},
        {"name": "b"},
        {"is_ready": False},
        {"is_ready": False, "trouble": UNHEARD},
    ]
    assert all(names.listing(one) != names.listing(dataclasses.replace(one, **change)) for change in changes)
    assert names.listing(None) is names.listing(dataclasses.replace(one, is_leaving=True)) is None


def unreadable(name: str, day: int) -> Owner:
    return Owner(name, f"uid-{name}", datetime(2026, 11, day, tzinfo=UTC))


def test_pods_of_one_whose_spec_can_not_be_read_go_on_serving_their_name() -> None:
    pods = [pod("1", "broken", "model"), pod("2", "qwen", "qwen")]
    found = names.registry([engine("qwen")], pods, unreadable=[unreadable("broken", 1)])
    assert shown(found) == {"model": ("broken", ["1"]), "qwen": ("qwen", ["2"])}


def size(registry: names.Registry) -> int:
    return sum(len(key) + len(value.encode()) for key, value in registry.data.items())


def test_the_newest_is_left_out_of_a_registry_that_is_full() -> None:
    engines = [engine("c", day=3), engine("a", day=1), engine("b", day=2)]
    pods = [pod(of, of, of) for of in "cab"]
    whole = names.registry(engines, pods)
    fits = names.registry(engines, pods, max_bytes=size(whole))
    assert fits == whole
    full = names.registry(engines, pods, max_bytes=size(whole) - 1)
    assert full.left_out == {"uid-c"}
    assert set(shown(full)) == {"a", "b"}


def test_of_one_s_two_names_always_the_same_one_is_left_out() -> None:
    pods = [pod("1", "qwen", "b"), pod("2", "qwen", "a")]
    for order in (pods, pods[::-1]):
        whole = names.registry([engine("qwen", "b")], order)
        full = names.registry([engine("qwen", "b")], order, max_bytes=size(whole) - 1)
        assert (full.left_out, set(shown(full))) == ({"uid-qwen"}, {"a"})


def test_a_small_newer_name_may_stay_where_a_large_one_has_no_space() -> None:
    engines = [engine("old"), engine("large", "n" * 200, day=2), engine("small", day=3)]
    pods = [pod("1", "old", "old"), pod("2", "large", "n" * 200), pod("3", "small", "small")]
    whole = size(names.registry(engines, pods))
    full = names.registry(engines, pods, max_bytes=whole - 200)
    assert (full.left_out, set(shown(full))) == ({"uid-large"}, {"old", "small"})


def test_the_bound_is_four_fifths_of_what_an_object_may_be() -> None:
    assert names.MAX_BYTES == 838_860
    many = [engine(f"e{i}", f"{i:03}" + "汉" * 250, day=1 + i // 40) for i in range(900)]
    pods = [pod(f"p{i}", f"e{i}", f"{i:03}" + "汉" * 250) for i in range(900)]
    found = names.registry(many, pods)
    assert names.MAX_BYTES - 4000 < size(found) <= names.MAX_BYTES
    assert found.left_out
    days = {e.uid: e.created for e in many}
    newest = max(days[e.engine_uid] for e in entries(found))
    assert min(days[uid] for uid in found.left_out) >= newest - timedelta(days=1)


SERVED = st.sampled_from(["a", "b", "A/b", "汉"])
ENGINES = st.lists(
    st.builds(engine, st.sampled_from("uvwxyz"), SERVED, day=st.integers(1, 3)), unique_by=lambda e: e.name, max_size=6
)
PODS = st.lists(
    st.builds(
        pod,
        st.uuids().map(str),
        st.sampled_from("uvwxyz?"),
        SERVED,
        is_ready=st.booleans(),
        is_leaving=st.booleans(),
        ip=st.sampled_from(["10.0.0.1", "fd00::1", ""]),
        protocol=st.sampled_from(["chat", "retriever"]),
    ),
    unique_by=lambda p: p.uid,
    max_size=12,
)


@given(ENGINES, PODS, st.integers(0, 3000))
def test_the_registry_keeps_its_promises(engines: list[Engine], pods: list[PodState], max_bytes: int) -> None:
    found = names.registry(engines, pods, max_bytes)
    listed = entries(found)
    assert size(found) <= max_bytes
    assert len({(e.protocol, e.name) for e in listed}) == len(listed)
    by_uid, by_name = {p.uid: p for p in pods}, {e.name: e for e in engines}
    owners = {key: names.owner(e for e in engines if names.name_key(e) == key) for key in map(names.name_key, engines)}
    for entry in listed:
        assert entry.services or (entry.protocol, entry.name) in owners
        assert by_name[entry.engine].uid == entry.engine_uid
        key = (entry.protocol, entry.name)
        assert owners.get(key, by_name[entry.engine]) is by_name[entry.engine]
        for service in entry.services:
            there = by_uid[service.uid]
            assert there.is_ready
            assert not there.is_leaving
            assert (there.engine, there.served_name, there.protocol) == (entry.engine, entry.name, entry.protocol)
            assert service.info.host == there.ip != ""
    seen = [service.uid for entry in listed for service in entry.services]
    assert len(seen) == len(set(seen))
    assert found.left_out <= {e.uid for e in engines}


@given(ENGINES, PODS)
def test_everybody_who_may_be_listed_is(engines: list[Engine], pods: list[PodState]) -> None:
    seen = {service.uid for entry in entries(names.registry(engines, pods)) for service in entry.services}
    by_name = {e.name: e for e in engines}
    for one in pods:
        wanting = [e for e in engines if names.name_key(e) == (one.protocol, one.served_name)]
        if one.engine in by_name and names.is_listed(one) and wanting:
            assert (one.uid in seen) == (names.owner(wanting) is by_name[one.engine])


@given(ENGINES, PODS, st.integers(0, 3000))
def test_one_more_newcomer_pushes_nobody_out(engines: list[Engine], pods: list[PodState], max_bytes: int) -> None:
    newcomer = engine("newcomer", "a", day=9)
    more = [*pods, pod("new", "newcomer", "a"), pod("new-2", "newcomer", "own")]
    before, after = names.registry(engines, pods, max_bytes), names.registry([*engines, newcomer], more, max_bytes)
    wanted = {names.name_key(e) for e in engines}
    kept = {key: value for key, value in before.data.items() if key != "chat.a" or ("chat", "a") in wanted}
    assert kept.items() <= after.data.items()
