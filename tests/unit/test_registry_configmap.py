"""The registry as a ConfigMap's data: what is written is read again, and what others write there harms nobody."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelengine.protocol import ServerInfo
from modelengine.registry_configmap import Entry, Service, decode, encode, encode_key

ENTRY = Entry(
    "org/model", "chat", "engine-a", "u-1", (Service(ServerInfo("org/model", "10.0.0.7", 8000), "p-1", "engine-a-x"),)
)
KEY = "chat.org_2Fmodel"
# What the API server lets a key be.
VALID_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")

names = st.text(min_size=1, max_size=256)
hosts = st.one_of(st.ip_addresses(v=4, network="10.0.0.0/8"), st.ip_addresses(v=6, network="fd00::/8")).map(str)
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    name, protocol = draw(names), draw(st.sampled_from(["chat", "retriever", "a.b", "名"]))
    uids = sorted(draw(st.sets(st.text(min_size=1, max_size=36), max_size=4)))
    services = [
        Service(ServerInfo(name, draw(hosts), draw(st.integers(1, 65535)), protocol), uid, f"pod-{i}")
        for i, uid in enumerate(uids)
    ]
    return Entry(name, protocol, draw(names), draw(names), tuple(services))


def changed(**changes: Any) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(encode([ENTRY])[KEY])
    return {**value, **changes}


def with_service(**changes: Any) -> dict[str, Any]:
    [service] = changed()["services"]
    good = {**service, "uid": "p-2", "host": "10.0.0.8"}
    return changed(services=[{**service, **changes}, good])


def test_an_entry_is_one_key_with_the_real_name_in_compact_json() -> None:
    assert encode([ENTRY]) == {
        KEY: '{"name":"org/model","protocol":"chat","engine":{"name":"engine-a","uid":"u-1"},"services":['
        '{"name":"org/model","host":"10.0.0.7","port":8000,"protocol":"chat","uid":"p-1","pod":"engine-a-x"}]}'
    }


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("demo", "chat.demo"),
        ("Qwen/Qwen1.5-0.5B-Chat", "chat.Qwen_2FQwen1.5-0.5B-Chat"),
        ("a_b", "chat.a_5Fb"),
        ("名", "chat._E5_90_8D"),
        ("..", "chat..."),
    ],
)
def test_a_key_keeps_what_a_key_may_hold_and_spells_the_rest_by_bytes(name: str, key: str) -> None:
    assert encode_key("chat", name) == key


def test_a_key_that_would_be_too_long_is_a_digest_that_no_other_name_has() -> None:
    assert encode_key("chat", "x" * 248) == "chat." + "x" * 248
    long = encode_key("chat", "x" * 249)
    assert re.fullmatch("chat\\.sha256__[0-9a-f]{64}", long)
    assert encode_key("chat", long.removeprefix("chat.")) != long
    assert decode(encode([Entry("x" * 256, "chat", "e", "u")])) == ([Entry("x" * 256, "chat", "e", "u")], [])


def test_the_dot_after_the_protocol_is_never_one_of_the_protocol() -> None:
    assert encode_key("a.b", "c") != encode_key("a", "b.c")


# The first text that Hypothesis draws takes it a second.
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(entries(), unique_by=lambda entry: (entry.protocol, entry.name), max_size=4))
def test_what_was_written_is_read_again(written: list[Entry]) -> None:
    data = encode(written)
    read, complaints = decode(data)
    assert complaints == []
    assert sorted(read, key=repr) == sorted(written, key=repr)
    assert all(VALID_KEY.fullmatch(key) and not key.startswith("..") for key in data)
    assert data == encode(reversed(written))


@given(names, names, names, names)
def test_two_names_never_have_one_key(protocol: str, name: str, other_protocol: str, other: str) -> None:
    same = (protocol, name) == (other_protocol, other)
    assert (encode_key(protocol, name) == encode_key(other_protocol, other)) is same


def test_equal_registries_are_equal_text_in_whatever_order_the_pods_came() -> None:
    services = [Service(ServerInfo("m", f"10.0.0.{i}", 8000), f"p-{i}", f"pod-{i}") for i in range(3)]
    forth, back = (Entry("m", "chat", "e", "u", tuple(order)) for order in (services, services[::-1]))
    assert encode([forth]) == encode([back])


@given(st.dictionaries(st.text() | st.just(KEY), st.text() | any_json.map(json.dumps) | any_json | st.binary()))
def test_no_garbage_raises_or_becomes_an_entry(data: dict[str, Any]) -> None:
    read, complaints = decode(data)
    assert read == []
    assert len(complaints) == len(data)


@given(st.sampled_from(["name", "protocol", "engine", "services"]), any_json)
def test_a_field_with_anything_in_it_never_raises(field: str, value: Any) -> None:
    read, _ = decode({KEY: json.dumps(changed(**{field: value}))})
    for entry in read:
        assert decode(encode([entry])) == ([entry], [])


@given(st.sampled_from(["name", "host", "port", "protocol", "uid", "pod"]), any_json)
def test_a_service_with_anything_in_it_never_raises_nor_harms_its_neighbour(field: str, value: Any) -> None:
    [entry], _ = decode({KEY: json.dumps(with_service(**{field: value}))})
    assert ServerInfo("org/model", "10.0.0.8", 8000) in [service.info for service in entry.services]


@pytest.mark.parametrize("value", ["", "{", "[" * 100_000, "9" * 5000, "null", None, 5, b"{}", ["{}"]])
def test_a_value_that_is_no_entry_is_complained_about_by_its_key(value: Any) -> None:
    read, [complaint] = decode({KEY: value})
    assert read == []
    assert complaint.startswith(f"'{KEY}': ")


def test_no_data_is_no_entries_and_no_complaint() -> None:
    assert decode(None) == decode({}) == ([], [])


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (changed(name="other"), "is not the key of chat 'other'"),
        (changed(protocol="retriever"), "is not the key of retriever 'org/model'"),
        (changed(name=""), "name: must be a text of 1 to 256 characters, got ''"),
        (changed(name="x" * 257), "name: must be a text of 1 to 256 characters, got"),
        (changed(name="\ud800"), "name: has half a character"),
        (changed(engine="e"), "name: is missing"),
        (changed(engine={"name": "e"}), "uid: is missing"),
        (changed(services={}), "services: must be a list"),
    ],
)
def test_an_entry_that_is_wrong_is_dropped_and_the_complaint_says_why(value: Any, complaint: str) -> None:
    read, complaints = decode({KEY: json.dumps(value)})
    assert read == []
    assert complaint in complaints[0]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"port": 0}, "port: must be a whole number from 1 to 65535, got 0"),
        ({"port": 65536}, "got 65536"),
        ({"port": "8000"}, "got '8000'"),
        ({"port": True}, "got True"),
        ({"port": 8000.0}, "got 8000.0"),
        ({"host": ""}, "host: must be a text"),
        ({"host": "pod.example"}, "host: must be the IP address of a pod, got 'pod.example'"),
        ({"host": "10.0.0.7/x"}, "host: must be the IP address"),
        ({"host": "0.0.0.0"}, "host: must be the IP address"),
        ({"host": "224.0.0.1"}, "host: must be the IP address"),
        ({"host": "169.254.169.254"}, "host: must be the IP address"),
        ({"host": "fd00::1%eth0"}, "host: must be the IP address"),
        ({"name": "other"}, "name: is not the entry's"),
        ({"protocol": "retriever"}, "name: is not the entry's"),
        ({"uid": ""}, "uid: must be a text"),
        ({"uid": "p-2"}, "'p-2' is there twice"),
        ({"pod": None}, "pod: must be a text"),
    ],
)
def test_a_service_that_is_wrong_is_dropped_alone_and_the_complaint_says_why(
    change: dict[str, Any], complaint: str
) -> None:
    [entry], [told] = decode({KEY: json.dumps(with_service(**change))})
    assert len(entry.services) == 1
    assert complaint in told
    assert told.startswith(f"'{KEY}': services[")


def test_a_complaint_is_short_and_one_line_whatever_it_is_about() -> None:
    _, [complaint] = decode({"x\n\x1b[31m" * 1000: "no"})
    assert complaint.isprintable()
    assert len(complaint) < 200


def test_what_a_later_version_adds_is_ignored() -> None:
    value = with_service()
    value["digest"] = "sha256:0"
    value["services"][0]["zone"] = "a"
    [entry], complaints = decode({KEY: json.dumps(value)})
    assert (len(entry.services), complaints) == (2, [])


def test_a_name_of_a_thousand_replicas_comes_back_whole() -> None:
    services = tuple(
        Service(ServerInfo("m", f"10.0.{i // 250}.{i % 250 + 1}", 8000), f"p-{i:04}", f"pod-{i}") for i in range(1000)
    )
    entry = Entry("m", "chat", "e", "u", services)
    assert decode(encode([entry])) == ([entry], [])
