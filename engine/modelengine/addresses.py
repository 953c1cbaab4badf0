"""Hosts to listen on and hosts to dial: what a wildcard means to this machine, and to others."""

from __future__ import annotations

import ipaddress
import socket

# A server that listens on all interfaces, and where this machine itself reaches it.
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}
# A machine that is no machine (RFC 5737): the way to it leads through the address that others know us by.
ELSEWHERE = ("192.0.2.1", 9)


def dialled_here(host: str) -> str:
    """Where this machine reaches what listens on `host`."""
    return WILDCARDS.get(host, host)


def dialled_by_others(host: str) -> str:
    """Where other machines reach what listens on `host`. Sends nothing: a UDP socket only looks up the way."""
    if host not in WILDCARDS:
        return host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(ELSEWHERE)
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def is_loopback(host: str) -> bool:
    """Whether the host is this machine's inside, by its name or its number."""
    literal = _literal(host)
    return host == "localhost" if literal is None else literal.is_loopback


def is_elsewhere(host: str) -> bool:
    """Whether the address is another machine's. A name may be anybody's: it is not looked up."""
    literal = _literal(host)
    if literal is None or literal.is_loopback or literal.is_unspecified:
        return False
    with socket.socket(socket.AF_INET if literal.version == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((host, 0))
        except OSError:
            return True
        return False


def _literal(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
