"""The native protocol as data: what the name server, an engine and a client call each other, and records as JSON.

What they say of chats is in `chats.py`, of vectors and ranks in `vectors.py`. All of it are frozen dataclasses of the
standard library. The HTTP doors validate them (FastAPI reads the bounds from the annotations), the client fills them
from JSON with `from_json`, which ignores fields that a newer server has added. Every bound and default of the protocol
stands in these three files and nowhere else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from annotated_types import Ge, Le, MaxLen, MinLen

DEFAULT_PORT = 9527
# What a model speaks: that can be chatted with, that makes vectors of texts, that says how well texts answer a query.
CHAT = "chat"
EMBED = "embed"
RERANK = "rerank"
PROTOCOLS = (CHAT, EMBED, RERANK)

# Requests refuse fields they do not know: a misspelt option must not be silently without effect.
STRICT: Mapping[str, Any] = {"extra": "forbid", "strict": True}

Name = Annotated[str, MinLen(1), MaxLen(256)]
Record = TypeVar("Record")


class NameServerMethod(StrEnum):
    """The calls of the name server: `POST /nameserver/<method>`."""

    DEREGISTER = "deregister"
    GET_SERVICE_NAMES = "get_service_names"
    GET_SERVICES = "get_services"
    INFO = "info"
    REGISTER = "register"
    REPORT = "report"
    SUPPORT_METHODS = "support_methods"
    WAIT = "wait"
    WATCH = "watch"


class EngineMethod(StrEnum):
    """The calls of an engine, and of the front door on its behalf: `POST /engine/<method>`."""

    EMBED = "embed"
    INFERENCE = "inference"
    INFO = "info"
    RERANK = "rerank"
    SUPPORT_METHODS = "support_methods"


# What an engine is asked for that speaks a protocol.
METHOD_OF: Mapping[str, EngineMethod] = {
    CHAT: EngineMethod.INFERENCE,
    EMBED: EngineMethod.EMBED,
    RERANK: EngineMethod.RERANK,
}


def methods(protocol: str) -> list[str]:
    """The sorted methods of an engine that speaks the protocol."""
    return sorted((METHOD_OF[protocol], EngineMethod.INFO, EngineMethod.SUPPORT_METHODS))


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """Where one replica of a name answers."""

    name: Name
    host: Name
    port: Annotated[int, Ge(1), Le(65535)]
    protocol: Name = CHAT

    __pydantic_config__: ClassVar[Mapping[str, Any]] = STRICT

    @property
    def url(self) -> str:
        return f"http://{host_in_url(self.host)}:{self.port}"


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """What an engine has to do: requests that run and that wait, and how much of its cache they hold, 0 to 1."""

    running: int
    waiting: int
    cache_usage: float = 0.0


@dataclass(frozen=True, slots=True)
class ServerResponse:
    """The envelope of every answer, as it is shown to people."""

    state: Literal["ok", "error"]
    msg: Any


def host_in_url(host: str) -> str:
    """The host as URLs write it: IPv6 addresses in brackets."""
    return f"[{host}]" if ":" in host else host


@cache
def _field_names(cls: Any) -> frozenset[str]:
    return frozenset(f.name for f in dataclasses.fields(cls))


def from_json(cls: type[Record], data: Mapping[str, Any]) -> Record:
    """Fills the dataclass `cls` from decoded JSON; fields that `cls` does not know are additions, and ignored."""
    known = _field_names(cls)  # type: ignore[arg-type]  # a class is hashable
    return cls(
        **{key: tuple(value) if isinstance(value, list) else value for key, value in data.items() if key in known}
    )


def to_json(record: Any) -> dict[str, Any]:
    """The dataclass as plain data. A field that has a default and is None is left out; required fields always stand."""
    return {
        name: value if type(value) in _PLAIN else _plain(value)
        for name, has_default in _rendered_fields(type(record))  # type: ignore[arg-type]  # a class is hashable
        if (value := getattr(record, name)) is not None or not has_default
    }


_PLAIN = (str, int, bool, float, type(None))


@cache
def _rendered_fields(cls: Any) -> tuple[tuple[str, bool], ...]:
    """The name of each field of the dataclass, and whether it has a default."""
    missing = dataclasses.MISSING
    return tuple(
        (f.name, f.default is not missing or f.default_factory is not missing) for f in dataclasses.fields(cls)
    )


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_json(value)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value
