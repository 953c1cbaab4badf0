"""Which pages of browsers may talk to a server of ours, and under which names it answers them.

A page of any site may make its visitor's browser send requests to addresses that only the visitor reaches, such as this
machine's own; and a site whose name is made to point to such an address (DNS rebinding) is of one origin with it. So a
request with an Origin must come from this server's own page or from an origin that is configured, and the Host must be
a name that nobody else can have pointed here. What is not a browser sends neither trap and is not held up, unless the
server listens on the loopback, where no other name than the machine's own has any business.

Pure; `hosts.py` holds requests against it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from modelengine import env, errors

ORIGINS_VARIABLE = "MODELENGINE_CORS_ORIGINS"
HOSTS_VARIABLE = "MODELENGINE_ALLOWED_HOSTS"
# Names that no site can have: of the machine itself, and of a cluster's own DNS.
LOCAL = ("localhost",)
OF_A_CLUSTER = (".svc", ".svc.cluster.local", ".pod.cluster.local")
NAME = re.compile(r"(\*\.)?[a-z0-9_]([-a-z0-9._]*[a-z0-9_])?|\[?[0-9a-f:.]+\]?")
PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request says of where it comes from and whom it means; header values, empty where there is none."""

    host: str = ""
    origin: str = ""
    site: str = ""
    mode: str = ""
    agent: str = ""

    @property
    def is_browsers(self) -> bool:
        return bool(self.origin or self.site or self.mode or self.agent.startswith("Mozilla/"))


@dataclass(frozen=True, slots=True)
class Policy:
    """`origins` are those of other sites' pages that may ask; `hosts` names that this server is called by, each also
    as `*.domain`. `is_loopback`: it listens for this machine only."""

    origins: frozenset[str] = frozenset()
    hosts: tuple[str, ...] = ()
    is_loopback: bool = False

    def refusal(self, asked: Asked) -> errors.Forbidden | None:
        """Why this request is not answered; None when it is."""
        name = host_name(asked.host)
        if name is None:
            return errors.Forbidden("the Host header names no host")
        if asked.host and not self._is_called(name) and (self.is_loopback or asked.is_browsers):
            return errors.Forbidden(f"this server is not called {name[:100]!r}; if it is, name it in {HOSTS_VARIABLE}")
        if asked.origin and not self.is_allowed(asked.origin) and not is_same(asked.origin, asked.host):
            return errors.Forbidden(
                f"pages of {asked.origin[:100]!r} may not ask this server; if they may, name it in {ORIGINS_VARIABLE}"
            )
        # A link to this server's page is no harm; what a foreign page loads from here is.
        if not asked.origin and asked.site == "cross-site" and asked.mode != "navigate":
            return errors.Forbidden(f"pages of other sites may not load from this server; see {ORIGINS_VARIABLE}")
        return None

    def is_allowed(self, origin: str) -> bool:
        return origin.lower() in self.origins

    def _is_called(self, name: str) -> bool:
        if any(name == known or (known.startswith("*.") and name.endswith(known[1:])) for known in self.hosts):
            return True
        if name in LOCAL or name.endswith(".localhost"):
            return True
        if self.is_loopback:
            return is_loopback(name)
        return _number(name) is not None or "." not in name or name.endswith(OF_A_CLUSTER)


def policy(variables: Mapping[str, str], listen_host: str) -> Policy:
    """Raises InvalidRequest that names the variable and what is allowed."""
    return Policy(
        origins=frozenset(_origin(word) for word in env.words(variables, ORIGINS_VARIABLE)),
        hosts=tuple(_host(word) for word in env.words(variables, HOSTS_VARIABLE)),
        is_loopback=is_loopback(listen_host),
    )


def host_name(host: str) -> str | None:
    """The name in a Host header, in small letters and without port or brackets; None when it can't be read."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return None
    if parts.path or parts.query or parts.fragment or "@" in host:
        return None
    return (parts.hostname or "").rstrip(".")


def is_same(origin: str, host: str) -> bool:
    """Whether the page came from this server. Its scheme is not compared: TLS may end before us."""
    try:
        page, here = urlsplit(origin), urlsplit(f"//{host}")
        default = PORTS.get(page.scheme)
        return default is not None and (page.hostname, page.port or default) == (here.hostname, here.port or default)
    except ValueError:
        return False


def is_loopback(name: str) -> bool:
    number = _number(name)
    return name in LOCAL if number is None else number.is_loopback


def _number(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _origin(word: str) -> str:
    parts = urlsplit(word.lower())
    if not parts.scheme or not parts.netloc or parts.path or parts.query or "*" in word:
        raise errors.InvalidRequest(
            f"{ORIGINS_VARIABLE}: must be origins such as https://chat.example.com with commas between, "
            f"and never *, got {word[:100]!r}"
        )
    return word.lower()


def _host(word: str) -> str:
    if not NAME.fullmatch(word.lower()):
        raise errors.InvalidRequest(
            f"{HOSTS_VARIABLE}: must be names such as chat.example.com or *.example.com, without ports and with "
            f"commas between, got {word[:100]!r}"
        )
    return word.lower().strip("[]")
