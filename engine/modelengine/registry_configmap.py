"""The registry as a ConfigMap's data: who serves which name in one namespace.

The operator writes what `encode` gives, the front door reads it with `decode`. Each served name is one key. A key
cannot hold every character, so the name is encoded there and stands unchanged in the value. Anybody with the right to
edit ConfigMaps can write anything into this one, so `decode` believes nothing and never raises.
"""

from __future__ import annotations

import functools
import hashlib
import ipaddress
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from modelengine.protocol import ServerInfo

MAX_KEY = 253
MAX_TEXT = 256
# Of a registry's thousand names one changes at a time; the others are not read and written anew. What is long is not
# kept: it is rare, takes much space, and anybody may write it.
KEPT = 8192
MAX_KEPT_SERVICES = 16
MAX_KEPT_LENGTH = 4096


@dataclass(frozen=True, slots=True)
class Service:
    """One replica. `uid` is its pod's, so that a pod that comes back under an old address is another one."""

    info: ServerInfo
    uid: str
    pod: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One served name: the ModelEngine object behind it, and the replicas that are ready."""

    name: str
    protocol: str
    engine: str
    engine_uid: str
    services: tuple[Service, ...] = ()


class _Bad(Exception):
    """What is wrong with a value, in words."""


def encode_key(protocol: str, name: str) -> str:
    """The name's key: `chat.org_2Fmodel`. Two names never have the same one."""
    # Without dots in the protocol, the first dot ends it.
    prefix = _escape(protocol).replace(".", "_2E")
    key = f"{prefix}.{_escape(name)}"
    if len(key) <= MAX_KEY:
        return key
    # No escaped text has two underscores side by side, so this is no other name's key.
    key = f"{prefix}.sha256__{_sha256(name)}"
    return key if len(key) <= MAX_KEY else f"sha256__{_sha256(protocol)}.sha256__{_sha256(name)}"


def encode(entries: Iterable[Entry]) -> dict[str, str]:
    """The ConfigMap's `data`. Equal entries give equal text, in whatever order they and their services come."""
    data: dict[str, str] = {}
    for entry in sorted(entries, key=lambda entry: (entry.protocol, entry.name)):
        key = encode_key(entry.protocol, entry.name)
        assert key not in data, f"two entries for {entry.protocol} {entry.name!r}"
        data[key] = _kept_value(entry) if len(entry.services) <= MAX_KEPT_SERVICES else _value(entry)
    return data


@functools.lru_cache(KEPT)
def _kept_value(entry: Entry) -> str:
    return _value(entry)


def _value(entry: Entry) -> str:
    return json.dumps(_to_json(entry), ensure_ascii=False, separators=(",", ":"))


def decode(data: Mapping[str, Any] | None) -> tuple[list[Entry], list[str]]:
    """What can be believed of a ConfigMap's `data`, and a complaint for each thing that cannot, key first."""
    entries: list[Entry] = []
    complaints: list[str] = []
    for key, value in (data or {}).items():
        try:
            is_short = isinstance(value, str) and len(value) <= MAX_KEPT_LENGTH
            entry, doubts = _kept_entry(key, value) if is_short else _entry(key, value)
        except _Bad as bad:
            complaints.append(f"{_shown(key)}: {bad}")
        else:
            entries.append(entry)
            complaints += [f"{_shown(key)}: {doubt}" for doubt in doubts]
    return entries, complaints


def _escape(text: str) -> str:
    return re.sub("[^A-Za-z0-9.-]", lambda found: "".join(f"_{byte:02X}" for byte in found[0].encode()), text)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _to_json(entry: Entry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "protocol": entry.protocol,
        "engine": {"name": entry.engine, "uid": entry.engine_uid},
        "services": [
            {
                "name": service.info.name,
                "host": service.info.host,
                "port": service.info.port,
                "protocol": service.info.protocol,
                "uid": service.uid,
                "pod": service.pod,
            }
            for service in sorted(entry.services, key=lambda service: (service.uid, service.info.host))
        ],
    }


@functools.lru_cache(KEPT)
def _kept_entry(key: str, value: str) -> tuple[Entry, tuple[str, ...]]:
    return _entry(key, value)


def _entry(key: str, value: Any) -> tuple[Entry, tuple[str, ...]]:
    """The entry and what was left out of it. Raises _Bad when nothing of it can be believed."""
    try:
        told = json.loads(value)
    except (ValueError, TypeError, RecursionError):
        raise _Bad("is not JSON") from None
    name, protocol = _text(told, "name"), _text(told, "protocol")
    if key != encode_key(protocol, name):
        raise _Bad(f"is not the key of {protocol} {name!r}")
    engine = _field(told, "engine")
    owner, owner_uid = _text(engine, "name"), _text(engine, "uid")
    listed = _field(told, "services")
    if not isinstance(listed, list):
        raise _Bad("services: must be a list")
    services: dict[str, Service] = {}
    doubts = []
    for i, item in enumerate(listed):
        try:
            service = _service(item, name, protocol)
            if service.uid in services:
                raise _Bad(f"uid: {service.uid!r} is there twice")
            services[service.uid] = service
        except _Bad as bad:
            doubts.append(f"services[{i}].{bad}")
    return Entry(name, protocol, owner, owner_uid, tuple(services.values())), tuple(doubts)


def _service(told: Any, name: str, protocol: str) -> Service:
    if (_text(told, "name"), _text(told, "protocol")) != (name, protocol):
        raise _Bad("name: is not the entry's")
    host, port = _text(told, "host"), _field(told, "port")
    if not _is_dialable(host):
        raise _Bad(f"host: must be the IP address of a pod, got {_shown(host)}")
    if type(port) is not int or not 1 <= port <= 65535:
        raise _Bad(f"port: must be a whole number from 1 to 65535, got {_shown(port)}")
    return Service(ServerInfo(name, host, port, protocol), _text(told, "uid"), _text(told, "pod"))


def _is_dialable(host: str) -> bool:
    """Never a name or a path, and no address that belongs to no pod, as a cloud's metadata server is one."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    if "%" in host:
        return False
    return not (address.is_unspecified or address.is_multicast or address.is_link_local)


def _field(told: Any, name: str) -> Any:
    if not isinstance(told, dict) or name not in told:
        raise _Bad(f"{name}: is missing")
    return told[name]


def _text(told: Any, name: str) -> str:
    value = _field(told, name)
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_TEXT:
        raise _Bad(f"{name}: must be a text of 1 to {MAX_TEXT} characters, got {_shown(value)}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _Bad(f"{name}: has half a character") from None
    return value


def _shown(value: Any) -> str:
    """Short, in one line, and nothing but ASCII: it goes into logs."""
    return ascii(value)[:100]
