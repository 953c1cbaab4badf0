"""The keys that the front door asks for, as data: how an admin writes them, and whose a given one is.

Pure. `keyfile.py` reads the file or the folder that a Secret is mounted as, and reads it again when it changes.

    alice:                        # a name for logs; never the key
      key: sha256:9f86d081...     # or the key itself; `sha256:` and 64 digits keep it out of the file
      models: ["qwen*", demo]     # what it may ask for, by shell patterns; all when left out
      scopes: [chat]              # chat, names, register; chat when left out
      requestsPerMinute: 60       # no limit when left out
      tokensPerMinute: 100000
      streams: 4                  # answers at a time
      cache: own                  # or shared, with all other keys that say so; own when left out
    bob: sha256:...               # the short form: no limits
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any

import yaml

from modelengine import errors
from modelengine_gateway.ratelimits import Limits

HASHED = "sha256:"
DIGEST = re.compile("[0-9a-f]{64}")
# Of the key that `modelengine up` makes for itself.
OWN = "own"
# Fewer characters can be tried out.
SHORTEST_KEY = 16
MAX_LIMIT = 10**12
LIMITS = {"requestsPerMinute": "requests_per_minute", "tokensPerMinute": "tokens_per_minute", "streams": "streams"}
FIELDS = ("key", "models", "scopes", *LIMITS, "cache")


class Opens(StrEnum):
    """What a key opens: answers of models; the addresses of engines; registering them."""

    CHAT = "chat"
    NAMES = "names"
    REGISTER = "register"


class Cache(StrEnum):
    """With whom a key shares what engines have computed of prompts. How soon an answer comes, and its count of cached
    tokens, tell whoever shares it what others have asked."""

    OWN = "own"
    SHARED = "shared"


@dataclass(frozen=True, slots=True)
class Key:
    name: str
    digest: bytes = field(repr=False)
    models: tuple[str, ...] = ("*",)
    scopes: frozenset[Opens] = frozenset({Opens.CHAT})
    limits: Limits = field(default_factory=Limits)
    cache: Cache = Cache.OWN

    def salt(self, given: str | None) -> str | None:
        """The `cache_salt` of a request that has this one. Every front door makes the same of it, and nobody who lacks
        the key; the key can't be found out by it."""
        if self.cache is Cache.SHARED:
            return given
        mine = f"{self.name}\0{given or ''}".encode(errors="surrogatepass")
        return hashlib.blake2b(mine, key=self.digest, digest_size=16).hexdigest()

    def sees(self, model: str) -> bool:
        """Whether the model exists for who has this key."""
        return any(fnmatchcase(model, pattern) for pattern in self.models)


def digest(key: str) -> bytes:
    return hashlib.sha256(key.encode(errors="surrogateescape")).digest()


def owner(keys: Iterable[Key], given: str) -> Key | None:
    """Whose key this is. Compares with all, each in the same time, so that the time tells nothing about any of them."""
    asked, found = digest(given), None
    for key in keys:
        if hmac.compare_digest(key.digest, asked):
            found = key
    return found


def parse(text: str) -> list[Key]:
    """The keys of one file, in YAML or JSON. Raises InvalidRequest that names the key and what is wrong with it."""
    return [_written(name, value) for name, value in _mapping(_loaded(text), "the keys").items()]


def parse_one(name: str, text: str) -> Key:
    """One key from a file of its own, which has the fields or only the key."""
    return _written(name, _loaded(text))


def without_doubles(keys: Sequence[Key]) -> tuple[Key, ...]:
    """The keys. Raises InvalidRequest when two names have the same one: whose limits would hold?"""
    names: dict[bytes, str] = {}
    for key in keys:
        if (other := names.setdefault(key.digest, key.name)) != key.name:
            raise errors.InvalidRequest(f"{other!r} and {key.name!r} have the same key")
    return tuple(keys)


def entry(name: str, value: Any) -> Key:
    """A key as it stands under its name. Raises InvalidRequest, which never shows the key itself."""
    if isinstance(value, str):
        value = {"key": value}
    fields = _mapping(value, repr(name))
    if unknown := [known for known in fields if known not in FIELDS]:
        raise errors.InvalidRequest(f"{name}.{str(unknown[0])[:100]}: unknown; known are {', '.join(FIELDS)}")
    limits = {LIMITS[known]: _limit(name, known, fields[known]) for known in LIMITS if known in fields}
    return Key(
        name=name,
        digest=_digest(name, fields.get("key")),
        models=_words(name, "models", fields.get("models", ["*"])),
        scopes=_scopes(name, fields.get("scopes", [Opens.CHAT])),
        limits=Limits(**limits),
        cache=_cache(name, fields.get("cache", Cache.OWN)),
    )


def _written(name: str, value: Any) -> Key:
    if name == OWN:
        # It would share the limits and the log lines of the one.
        raise errors.InvalidRequest(f"{name}: is the name of the key that this server makes for itself; take another")
    return entry(name, value)


def _loaded(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as failure:
        # The message itself would show the line, and so perhaps a key.
        mark = getattr(failure, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark else ""
        raise errors.InvalidRequest(f"neither YAML nor JSON{where}") from None
    except (ValueError, RecursionError):
        # What looks like a date and is none; what is nested without an end.
        raise errors.InvalidRequest("holds something that is no text, number, list or mapping") from None


def _mapping(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        raise errors.InvalidRequest(f"{what}: must be a mapping from names")
    return value


def _digest(name: str, given: Any) -> bytes:
    if not isinstance(given, str) or not given.strip():
        raise errors.InvalidRequest(f"{name}.key: is required, as text")
    written = given.strip()
    if written.startswith(HASHED):
        hexadecimal = written.removeprefix(HASHED).lower()
        if not DIGEST.fullmatch(hexadecimal):
            raise errors.InvalidRequest(f"{name}.key: after {HASHED} there must be 64 hexadecimal digits")
        return bytes.fromhex(hexadecimal)
    if len(written) < SHORTEST_KEY:
        raise errors.InvalidRequest(f"{name}.key: must have at least {SHORTEST_KEY} characters")
    if not written.isascii() or not written.isprintable():
        # In a header it would be other bytes with each client.
        raise errors.InvalidRequest(f"{name}.key: must be of ASCII characters that can be printed")
    return digest(written)


def _words(name: str, known: str, given: Any) -> tuple[str, ...]:
    if not isinstance(given, list) or not all(isinstance(word, str) and word for word in given):
        raise errors.InvalidRequest(f"{name}.{known}: must be a list of texts")
    return tuple(given)


def _scopes(name: str, given: Any) -> frozenset[Opens]:
    words = _words(name, "scopes", given)
    if unknown := [word for word in words if word not in tuple(Opens)]:
        raise errors.InvalidRequest(f"{name}.scopes: must be of {', '.join(Opens)}, got {unknown[0][:100]!r}")
    return frozenset(map(Opens, words))


def _cache(name: str, given: Any) -> Cache:
    if given not in tuple(Cache):
        raise errors.InvalidRequest(f"{name}.cache: must be {' or '.join(Cache)}")
    return Cache(given)


def _limit(name: str, known: str, given: Any) -> int:
    if not isinstance(given, int) or isinstance(given, bool) or not 1 <= given <= MAX_LIMIT:
        raise errors.InvalidRequest(f"{name}.{known}: must be a whole number from 1 to {MAX_LIMIT}")
    return given
