"""API keys as an admin writes them, and how much each may ask for."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from modelengine import errors
from modelengine_gateway import keyfile, keys
from modelengine_gateway.keyfile import KeyFile
from modelengine_gateway.keys import Opens
from modelengine_gateway.ratelimits import Limits, Meter

SECRET = "a-key-of-somebody"
HASHED = "sha256:" + hashlib.sha256(SECRET.encode()).hexdigest()
WRITTEN = f"""
alice:
  key: {HASHED}
  models: ["qwen*", demo]
  scopes: [chat, names]
  requestsPerMinute: 60
  tokensPerMinute: 1000
  streams: 2
bob: another-key-of-somebody
"""


def test_a_key_is_written_with_its_limits_or_alone() -> None:
    alice, bob = keys.parse(WRITTEN)
    assert (alice.name, alice.scopes, alice.limits) == ("alice", {Opens.CHAT, Opens.NAMES}, Limits(60, 1000, 2))
    assert [alice.sees(name) for name in ("qwen3", "demo", "Qwen3", "other/qwen")] == [True, True, False, False]
    assert (bob.scopes, bob.limits, bob.sees("anything/at:all")) == ({Opens.CHAT}, Limits(), True)


def test_json_is_read_as_well() -> None:
    assert keys.parse(json.dumps({"alice": {"key": HASHED}}))[0].name == "alice"


def test_the_owner_of_a_key_is_found_by_the_key_or_its_hash_and_nobody_by_the_hash_itself() -> None:
    known = keys.parse(WRITTEN)
    assert [found.name for key in (SECRET, "another-key-of-somebody") if (found := keys.owner(known, key))] == [
        "alice",
        "bob",
    ]
    for wrong in (HASHED, HASHED.removeprefix("sha256:"), SECRET + " ", SECRET.upper(), "", "\udcff"):
        assert keys.owner(known, wrong) is None


def test_a_key_does_not_show_its_hash() -> None:
    assert "digest" not in repr(keys.parse(WRITTEN)[0])


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("- a", "the keys: must be a mapping from names"),
        ("1: a", "the keys: must be a mapping from names"),
        ("", "the keys: must be a mapping from names"),
        ("a: {", "neither YAML nor JSON (line 1)"),
        ("a: 2026-99-99", "holds something that is no text, number, list or mapping"),
        ("[" * 5000, "holds something that is no text, number, list or mapping"),
        ("a: 5", "'a': must be a mapping"),
        ("a: {models: [x]}", "a.key: is required, as text"),
        ("a: {key: 12345678901234567890}", "a.key: is required, as text"),
        (f"own: {HASHED}", "own: is the name of the key that this server makes for itself"),
        ("a: schlüssel-des-gärtners", "a.key: must be of ASCII characters"),
        ('a: "sixteen-long\\tsecret"', "a.key: must be of ASCII characters"),
        ("a: short", "a.key: must have at least 16 characters"),
        ("a: sha256:abc", "a.key: after sha256: there must be 64 hexadecimal digits"),
        (f"a: {{key: {HASHED}, model: [x]}}", "a.model: unknown; known are key, models, scopes, requestsPerMinute"),
        (f"a: {{key: {HASHED}, models: x}}", "a.models: must be a list of texts"),
        (f"a: {{key: {HASHED}, scopes: [admin]}}", "a.scopes: must be of chat, names, register, got 'admin'"),
        (f"a: {{key: {HASHED}, cache: mine}}", "a.cache: must be own or shared"),
        (f"a: {{key: {HASHED}, cache: [own]}}", "a.cache: must be own or shared"),
        (f"a: {{key: {HASHED}, streams: 0}}", "a.streams: must be a whole number from 1"),
        (f"a: {{key: {HASHED}, streams: true}}", "a.streams: must be a whole number from 1"),
    ],
)
def test_what_is_written_wrongly_is_named_and_no_key_is_shown(tmp_path: Path, written: str, says: str) -> None:
    file = tmp_path / "keys.yaml"
    file.write_text(written)
    with pytest.raises(errors.InvalidRequest) as refused:
        keyfile.read(file)
    assert refused.value.message.startswith(f"{file}: {says}")
    assert not any(key in refused.value.message for key in (HASHED, "short", "1234", "gärtner"))


def test_a_key_keeps_its_cache_from_others_whatever_salt_they_give_and_tells_nothing_of_itself() -> None:
    alice, bob, carol, dave = keys.parse(
        json.dumps(
            {
                "alice": {"key": HASHED},
                "bob": {"key": "another-key-of-somebody", "cache": "own"},
                "carol": {"key": "a-third-key-of-somebody", "cache": "shared"},
                "dave": {"key": "a-fourth-key-of-somebody", "cache": "shared"},
            }
        )
    )
    salts = [key.salt(given) for key in (alice, bob) for given in (None, "x", "bob", "alice")]
    assert len(set(salts)) == len(salts)
    assert None not in salts
    assert alice.salt("x") == keys.parse(json.dumps({"alice": SECRET}))[0].salt("x")
    assert not any(told in str(salt) for salt in salts for told in (SECRET, HASHED.removeprefix("sha256:"), "alice"))
    assert [carol.salt(None), dave.salt(None), carol.salt("x"), dave.salt("x")] == [None, None, "x", "x"]


def test_two_names_with_one_key_are_refused(tmp_path: Path) -> None:
    (tmp_path / "k").write_text(f"a: {SECRET}\nb: {HASHED}")
    with pytest.raises(errors.InvalidRequest, match="'a' and 'b' have the same key"):
        keyfile.read(tmp_path / "k")


def test_a_path_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidRequest, match="nothing: No such file"):
        KeyFile(tmp_path / "nothing")


def mount(folder: Path, entries: dict[str, str]) -> None:
    """As the kubelet mounts a Secret: a link to a folder of now, and a link to each entry in it."""
    version = folder / f"..{len(list(folder.iterdir()))}"
    version.mkdir()
    for name, text in entries.items():
        (version / name).write_text(text)
    link = folder / "..new"
    link.symlink_to(version.name)
    link.rename(folder / "..data")
    for old in [path for path in folder.iterdir() if not path.name.startswith(".") and path.name not in entries]:
        old.unlink()
    for name in entries:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")


@pytest.mark.parametrize("one_file", [True, False])
def test_a_mounted_secret_is_read_again_when_it_changes_and_a_bad_one_changes_nothing(
    tmp_path: Path, one_file: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def write(entries: dict[str, Any]) -> None:
        texts = {name: json.dumps(value) for name, value in entries.items()}
        mount(tmp_path, {"keys.yaml": json.dumps(entries)} if one_file else texts)

    write({"a": SECRET})
    file = KeyFile(tmp_path / "keys.yaml" if one_file else tmp_path)
    assert [key.name for key in file.keys] == ["a"]
    write({"a": SECRET, "b": {"key": HASHED[:-1] + "0"}})
    file.look()
    assert [key.name for key in file.keys] == ["a", "b"]
    with caplog.at_level(logging.ERROR):
        write({"a": SECRET, "b": "short"})
        file.look()
        file.look()
    assert [key.name for key in file.keys] == ["a", "b"]
    assert len(caplog.records) == 1
    assert "b.key: must have at least 16 characters" in caplog.text
    write({"b": {"key": HASHED[:-1] + "0"}})
    file.look()
    assert (file.owner(SECRET), [key.name for key in file.keys]) == (None, ["b"])


def test_whatever_goes_wrong_while_it_is_read_again_it_is_looked_at_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(f"a: {SECRET}")
    file = KeyFile(path)

    def broken(*_: object) -> None:
        raise MemoryError(SECRET)

    path.write_text(f"b: {SECRET}")
    with monkeypatch.context() as broken_for_now:
        broken_for_now.setattr(keyfile, "read", broken)
        file.look()
    assert [key.name for key in file.keys] == ["a"]
    assert "those from before stand: MemoryError" in caplog.text
    assert SECRET not in caplog.text
    path.write_text(f"other: {SECRET}")
    file.look()
    assert [key.name for key in file.keys] == ["other"]


def test_no_limits_let_everything_through() -> None:
    meter = Meter(Limits(), 0)
    for _ in range(1000):
        meter.admit(0)
    assert (meter.headers(0), meter.open) == ({}, 1000)


def test_requests_come_back_evenly_over_the_minute() -> None:
    meter = Meter(Limits(requests_per_minute=2), 0)
    meter.admit(0)
    meter.admit(0)
    with pytest.raises(errors.RateLimited, match="used up its 2 requests per minute") as refused:
        meter.admit(0)
    assert refused.value.retry_after_s == 30
    with pytest.raises(errors.RateLimited):
        meter.admit(29)
    meter.admit(31)
    # However long nothing came, no more than a minute's are there.
    meter.admit(10_000)
    meter.admit(10_000)
    with pytest.raises(errors.RateLimited):
        meter.admit(10_000)


def test_tokens_are_charged_when_an_answer_ends_and_a_debt_is_waited_for() -> None:
    meter = Meter(Limits(tokens_per_minute=60), 0)
    meter.admit(0)
    meter.admit(0)
    meter.done(100, 0)
    with pytest.raises(errors.RateLimited, match="60 tokens per minute") as refused:
        meter.admit(0)
    assert refused.value.retry_after_s == 41
    meter.admit(42)


def test_a_place_is_given_back_and_a_refused_request_takes_neither_place_nor_request() -> None:
    meter = Meter(Limits(requests_per_minute=3, streams=1), 0)
    meter.admit(0)
    for _ in range(5):
        with pytest.raises(errors.RateLimited, match="1 answer"):
            meter.admit(0)
    meter.done(0, 0)
    assert meter.headers(0)["x-ratelimit-remaining-requests"] == "2"
    meter.admit(0)


def test_the_headers_say_what_is_left_and_when_all_is_there_again() -> None:
    meter = Meter(Limits(requests_per_minute=60, tokens_per_minute=600), 0)
    meter.admit(0)
    meter.done(90, 0)
    assert meter.headers(0) == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1.000s",
        "x-ratelimit-limit-tokens": "600",
        "x-ratelimit-remaining-tokens": "510",
        "x-ratelimit-reset-tokens": "9.000s",
    }


def test_a_clock_that_goes_back_gives_and_takes_nothing() -> None:
    meter = Meter(Limits(requests_per_minute=60), 100)
    meter.admit(100)
    assert meter.headers(50)["x-ratelimit-remaining-requests"] == "59"
